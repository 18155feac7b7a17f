-- Changes entries that are still what was seen. header.rs says how a value is laid out.
--
-- KEYS     1 to 64 keys
-- ARGV     five for each key:
--            account, version   of the entry that was seen
--            what               'expiry' or 'tombstone'
--            bytes              the header's field of the expiry, or the whole tombstone
--            when               the key goes, in ms since the epoch; '' is never
--
-- Returns one number per key. The first error ends the call: the caller repeats it whole, which is harmless.

local CHANGED, SUPERSEDED = 0, 1

local MAGIC = '\137hc\1'
local ENTRY = 1
local VERSION_BYTES = 32
local EXPIRY_OFFSET = 37
local FIXED_BYTES = 48

-- Returns whether it is, and an error.
local function is_as_seen(key, account, version)
  local head = redis.pcall('GETRANGE', key, 0, FIXED_BYTES + #account - 1)
  if type(head) == 'table' then
    if string.sub(head.err, 1, 9) == 'WRONGTYPE' then return false end
    return false, head
  end
  if #head < FIXED_BYTES or string.sub(head, 1, 4) ~= MAGIC or string.byte(head, 5) ~= ENTRY then return false end
  return string.sub(head, 6, 5 + VERSION_BYTES) == version
    and string.byte(head, 46) == #account
    and string.sub(head, FIXED_BYTES + 1) == account
end

local function change(key, what, bytes, when)
  if what == 'tombstone' then return redis.pcall('SET', key, bytes, 'PXAT', when) end
  local reply = redis.pcall('SETRANGE', key, EXPIRY_OFFSET, bytes)
  if type(reply) == 'table' and reply.err then return reply end
  if when == '' then return redis.pcall('PERSIST', key) end
  return redis.pcall('PEXPIREAT', key, when)
end

local outcomes = {}
for i, key in ipairs(KEYS) do
  local at = 5 * (i - 1)
  local as_seen, failure = is_as_seen(key, ARGV[at + 1], ARGV[at + 2])
  if failure then return failure end
  if as_seen then
    local reply = change(key, ARGV[at + 3], ARGV[at + 4], ARGV[at + 5])
    if type(reply) == 'table' and reply.err then return reply end
  end
  outcomes[i] = as_seen and CHANGED or SUPERSEDED
end
return outcomes
