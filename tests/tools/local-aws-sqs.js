// Runs the SQS emulator local-aws-sqs on 127.0.0.1: node local-aws-sqs.js <port>
const { join } = require("node:path");
const root = join(__dirname, "..", "..", ".tools", "npm", "node_modules");
const { createSqsServer } = require(join(root, "local-aws-sqs"));

createSqsServer({ port: Number(process.argv[2]), hostname: "127.0.0.1" }).catch((error) => {
  console.error(error);
  process.exit(1);
});
