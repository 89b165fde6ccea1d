// A session of node-zookeeper-client with every operation that it has: node session.js HOST:PORT
// Prints a line for each step, "done" at the end.
const zookeeper = require("node-zookeeper-client");
const { ACL, Permission, Id, CreateMode, Exception } = zookeeper;

const client = zookeeper.createClient(process.argv[2], { sessionTimeout: 10000 });
const ask = (name, ...args) =>
  new Promise((resolve, reject) =>
    client[name](...args, (error, ...results) => (error ? reject(error) : resolve(results))));
const expect = (what, condition) => {
  if (!condition) throw new Error("not as expected: " + what);
  console.log(what);
};
const refused = async (code, ...call) => {
  try {
    await ask(...call);
  } catch (error) {
    return error.getCode && error.getCode() === code;
  }
  return false;
};
const event = () => {
  let heard;
  const promise = new Promise((resolve) => (heard = resolve));
  return [heard, promise];
};

async function main() {
  await new Promise((resolve) => (client.once("connected", resolve), client.connect()));
  expect("connected with a session", client.getSessionId().length === 8);
  const [path] = await ask("create", "/node", Buffer.from("one"), ACL.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
  expect("created", path === "/node");
  expect("exists already", await refused(Exception.NODE_EXISTS, "create", "/node"));
  const [changed, change] = event();
  const [data, stat] = await ask("getData", "/node", changed);
  expect("read", data.toString() === "one" && stat.version === 0 && stat.dataLength === 3);
  await ask("setData", "/node", Buffer.from("two"), 0);
  expect("told of the change", (await change).getName() === "NODE_DATA_CHANGED");
  expect("another version", await refused(Exception.BAD_VERSION, "setData", "/node", Buffer.from("x"), 7));
  const [made, making] = event();
  expect("not there", (await ask("exists", "/later", made))[0] === null);
  await ask("create", "/later", CreateMode.EPHEMERAL);
  expect("told of the creation", (await making).getName() === "NODE_CREATED");
  const [child, childs] = event();
  expect("no children", (await ask("getChildren", "/node", child))[0].length === 0);
  const [numbered] = await ask("create", "/node/n-", CreateMode.EPHEMERAL_SEQUENTIAL);
  expect("numbered", numbered === "/node/n-0000000000");
  expect("told of the child", (await childs).getName() === "NODE_CHILDREN_CHANGED");
  await ask("mkdirp", "/deep/er/est");
  expect("made a path", (await ask("exists", "/deep/er/est"))[0] !== null);
  client.addAuthInfo("digest", Buffer.from("user:secret"));
  const mine = [new ACL(Permission.ALL, new Id("auth", ""))];
  await ask("create", "/mine", Buffer.from("x"), mine, CreateMode.PERSISTENT);
  const [acls] = await ask("getACL", "/mine");
  expect("owned", acls[0].id.scheme === "digest" && acls[0].id.id.startsWith("user:"));
  await ask("setACL", "/mine", ACL.OPEN_ACL_UNSAFE);
  expect("opened", (await ask("getACL", "/mine"))[0][0].id.scheme === "world");
  const transaction = (operations) =>
    new Promise((resolve) => {
      const t = client.transaction();
      operations(t);
      t.commit((error, results) => resolve([error, results]));
    });
  let [error, results] = await transaction((t) =>
    t.create("/t", Buffer.from("1")).setData("/t", Buffer.from("2"), 0).check("/t", 1).remove("/later", -1));
  expect("transaction", !error && results.length === 4);
  [error] = await transaction((t) => t.create("/u").check("/none"));
  expect("transaction undone", error && (await ask("exists", "/u"))[0] === null);
  expect("has children", await refused(Exception.NOT_EMPTY, "remove", "/node"));
  await ask("remove", numbered, -1);
  for (const each of ["/deep/er/est", "/deep/er", "/deep"]) await ask("remove", each);
  for (const each of ["/node", "/mine", "/t"]) await ask("remove", each);
  expect("no such node", await refused(Exception.NO_NODE, "getData", "/node"));
  const closed = new Promise((resolve) => client.once("disconnected", resolve));
  client.close();
  await closed;
  console.log("done");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
