// Loaded before Omniboard (node -r): its server, which would listen on all interfaces, listens on this machine alone.
const net = require("node:net");

const HOST = "127.0.0.1";
const listen = net.Server.prototype.listen;

net.Server.prototype.listen = function (...args) {
  const [first, second] = args;
  if (first !== null && typeof first === "object" && "port" in first) {
    args[0] = { ...first, host: HOST };
  } else if (typeof first === "number" || /^\d+$/.test(String(first))) {
    args.splice(1, typeof second === "string" ? 1 : 0, HOST);
  } else if (first === undefined || typeof first === "function") {
    args.unshift(0, HOST);
  }
  return listen.apply(this, args);
};
