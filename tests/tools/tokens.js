// Makes and checks tokens with Atlassian's own library: one JSON request per line in, one answer per line out.
const crypto = require("node:crypto");
const { join } = require("node:path");
const readline = require("node:readline");
const root = join(__dirname, "..", "..", ".tools", "npm", "node_modules");
const atlassian = require(join(root, "atlassian-jwt"));

const pairs = {};
const pair = (name, bits = 2048) => (pairs[name] ??= crypto.generateKeyPairSync("rsa", { modulusLength: bits }));
const hash = ({ method, url, baseUrl }) =>
  atlassian.createQueryStringHash(atlassian.fromMethodAndUrl(method, url), false, baseUrl);

const operations = {
  // The public half of a key pair, which is made when it is first named.
  key({ name, bits }) {
    const { publicKey } = pair(name, bits);
    return { pem: publicKey.export({ type: "spki", format: "pem" }), jwk: publicKey.export({ format: "jwk" }) };
  },
  // Claims, signed: with a secret (HS256), or with a key pair (RS256). A call adds its hash.
  sign({ claims, call, secret, algorithm, key, kid }) {
    const all = call ? { ...claims, qsh: hash(call) } : claims;
    if (secret !== undefined) return { token: atlassian.encodeSymmetric(all, secret, algorithm) };
    const pem = pair(key).privateKey.export({ type: "pkcs8", format: "pem" });
    return { token: atlassian.encodeAsymmetric(all, pem, "RS256", kid && { kid }) };
  },
  // The claims of a token that the secret has signed for this call.
  verify({ token, secret, call }) {
    const claims = atlassian.decodeSymmetric(token, secret, "HS256");
    if (claims.qsh !== hash(call)) throw new Error("another call");
    return { claims };
  },
};

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const { operation, ...request } = JSON.parse(line);
  let answer;
  try {
    answer = operations[operation](request);
  } catch (error) {
    answer = { error: String(error) };
  }
  console.log(JSON.stringify(answer));
});
