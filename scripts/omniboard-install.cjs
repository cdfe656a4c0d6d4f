// Run by npm after an installation: removes what Omniboard ships by mistake, and adds our first columns to its page.
const fs = require("node:fs");
const path = require("node:path");

const web = path.join(__dirname, "..", "node_modules", "omniboard", "web");
fs.rmSync(path.join(web, "node_modules"), { recursive: true, force: true });
const page = path.join(web, "build", "index.html");
const tag = '<script src="/static/columns.js"></script>';
const html = fs.readFileSync(page, "utf8");
fs.copyFileSync(path.join(__dirname, "omniboard-columns.js"), path.join(web, "build", "static", "columns.js"));
if (!html.includes(tag)) fs.writeFileSync(page, html.replace("</head>", `${tag}</head>`));
