-- Writes one value under every key that gives way to it. header.rs says how a value is laid out.
--
-- KEYS     1 to 64 keys
-- ARGV[1]  account
-- ARGV[2]  version, 32 bytes
-- ARGV[3]  value: header and payload
-- ARGV[4]  when the value goes, in ms since the epoch; '' is never; 'gone' is already
-- ARGV[5]  what gives way: 'any', or 'entry' (a live entry only, so that nothing new is left behind)
--
-- Returns one number per key. The first error ends the call: the caller repeats it whole, which is harmless.

local APPLIED, DUPLICATE, SUPERSEDED, FOREIGN, UNREADABLE = 0, 1, 2, 3, 4

local MAGIC = '\137hc\1'
local ENTRY, TOMBSTONE = 1, 2
local VERSION_BYTES = 32
local FIXED_BYTES = 48
local ACCOUNT_BYTES_MAX = 128

local account, version, value, expires, gives_way = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

-- Lua's own `<` on strings follows the locale; a version compares as bytes.
local function is_newer(held)
  for i = 1, VERSION_BYTES do
    local a, b = string.byte(held, i), string.byte(version, i)
    if a ~= b then return a > b end
  end
  return false
end

-- Returns an outcome, whether a live entry is there, and an error.
local function judge(key)
  local head = redis.pcall('GETRANGE', key, 0, FIXED_BYTES + ACCOUNT_BYTES_MAX - 1)
  if type(head) == 'table' then
    if string.sub(head.err, 1, 9) == 'WRONGTYPE' then return UNREADABLE, false end
    return nil, false, head
  end
  if head == '' then
    -- An empty string is a value that is not ours.
    if redis.call('EXISTS', key) == 1 then return UNREADABLE, false end
    return APPLIED, false
  end
  if #head < FIXED_BYTES or string.sub(head, 1, 4) ~= MAGIC then return UNREADABLE, false end
  local kind, account_bytes = string.byte(head, 5), string.byte(head, 46)
  if kind ~= ENTRY and kind ~= TOMBSTONE then return UNREADABLE, false end
  local held_account = string.sub(head, FIXED_BYTES + 1, FIXED_BYTES + account_bytes)
  if #held_account ~= account_bytes then return UNREADABLE, false end
  if kind == ENTRY and held_account ~= account then return FOREIGN, false end
  local held_version = string.sub(head, 6, 5 + VERSION_BYTES)
  if held_version == version then return DUPLICATE, false end
  if is_newer(held_version) then return SUPERSEDED, false end
  return APPLIED, kind == ENTRY
end

local function put(key)
  if expires == '' then return redis.pcall('SET', key, value) end
  if expires == 'gone' then return redis.pcall('UNLINK', key) end
  return redis.pcall('SET', key, value, 'PXAT', expires)
end

local outcomes = {}
for i, key in ipairs(KEYS) do
  local outcome, entry_there, failure = judge(key)
  if failure then return failure end
  if outcome == APPLIED and (entry_there or gives_way == 'any') then
    local reply = put(key)
    if type(reply) == 'table' and reply.err then return reply end
  end
  outcomes[i] = outcome
end
return outcomes
