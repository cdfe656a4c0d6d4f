"use strict";
// What the server said, the images that pass the filters (places in its columns), and which of them is chosen.
let all = null;
let shown = [];
let current = 0;
let marks = new Map(); // id -> [mark, right class]
let isShown = new Uint8Array(0); // by place
const count = { shown: 0, all: 0 }; // how many of them have a mark
let near = null; // distances to an image, when the order is by similarity
const pending = new Map(); // changes that the server has not confirmed
const undone = []; // [id, what it was before]
let sending = false;
const KEYS = { c: "conflicting", l: "wrong label", f: "fine", u: "unsure", d: "drop" };
const $ = (id) => document.getElementById(id);
const grid = $("grid");

async function ask(path, options) {
  const answer = await fetch(path, options);
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.error);
  return said;
}

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// ---- marks: shown immediately, sent one after the other, sent again until they are on the disk

function markOf(place) { return marks.get(all.id[place]) || ["", ""]; }

function setMark(place, mark, label = "", undoable = true) {
  const id = all.id[place];
  if (undoable) undone.push([place, ...markOf(place)]);
  const change = Boolean(mark) - marks.has(id);
  count.all += change;
  count.shown += change * isShown[place];
  if (mark) marks.set(id, [mark, label]); else marks.delete(id);
  pending.set(id, { id, mark, label });
  paint(place);
  tell();
  if (map.open) map.draw();
  send();
}

async function send() {
  if (sending || !pending.size) return;
  sending = true;
  const some = [...pending.values()].slice(0, 500);
  try {
    const said = await ask("marks", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ marks: some }) });
    for (const change of some) if (pending.get(change.id) === change) pending.delete(change.id);
    keeping(said.problem);
  } catch (error) {
    keeping(`NOT SAVED: ${error.message || "the server does not answer"}; trying again`);
    setTimeout(() => { sending = false; send(); }, 2000);
    return;
  }
  sending = false;
  send();
}

function keeping(problem = "") {
  $("kept").classList.toggle("bad", Boolean(problem));
  $("kept").textContent = problem || (pending.size ? "saving …" : "all marks saved");
}

window.addEventListener("beforeunload", (event) => { if (pending.size) event.preventDefault(); });
// Another tab may have set marks.
window.addEventListener("focus", async () => {
  if (!all || pending.size) return;
  try {
    const said = await ask("marks");
    if (pending.size) return;
    take(said.marks);
    recount();
    draw(true);
    aside();
    keeping(said.problem);
  } catch (error) { keeping("the server does not answer"); }
});

function take(list) { marks = new Map(list.map(([id, mark, label]) => [id, [mark, label]])); }

// ---- filters and order

function filtered() {
  const target = $("class").value, mark = $("mark").value, only = $("suspects").checked;
  const low = Number($("low").value || 0), high = $("high").value === "" ? 1 : Number($("high").value);
  const found = [];
  for (let i = 0; i < all.id.length; i++) {
    const own = markOf(i)[0];
    if ((target === "" || all.target[i] === Number(target)) && (mark === "" || (mark === "none" ? !own : own === mark))
      && (!only || all.suspect[i]) && all.score[i] >= low && all.score[i] <= high) found.push(i);
  }
  const order = $("order").value;
  const value = { rank: (i) => -all.rank[i], least: (i) => all.rank[i], near: (i) => near[i] }[order];
  if (value) found.sort((a, b) => value(a) - value(b) || a - b);
  else found.sort((a, b) => all.name[a].localeCompare(all.name[b], undefined, { numeric: true }));
  return found;
}

// Filters anew; the image that is chosen stays so where it still passes.
function refresh(first = false) {
  const kept = shown[current];
  show(filtered());
  current = first ? 0 : Math.max(0, shown.indexOf(kept));
  $("nothing").hidden = shown.length > 0;
  draw(true);
  choose(current);
}

function show(list) {
  shown = list;
  isShown = new Uint8Array(all.id.length);
  for (const place of list) isShown[place] = 1;
  recount();
}

function recount() {
  count.shown = count.all = 0;
  all.id.forEach((id, place) => {
    if (marks.has(id)) { count.all++; count.shown += isShown[place]; }
  });
  tell();
}

function remember() {
  const state = { at: all.id[shown[current]] };
  for (const field of $("filters").elements) {
    if (field.id && field.tagName !== "BUTTON") state[field.id] = field.type === "checkbox" ? field.checked : field.value;
  }
  sessionStorage.setItem(all.title, JSON.stringify(state));
}

function recall() {
  const state = JSON.parse(sessionStorage.getItem(all.title) || "{}");
  for (const [id, value] of Object.entries(state)) {
    if (!$(id) || value === "near") continue;
    if ($(id).type === "checkbox") $(id).checked = value; else $(id).value = value;
  }
  show(filtered());
  current = Math.max(0, shown.findIndex((i) => all.id[i] === state.at));
}

// ---- the grid: only the tiles in sight are there

const tiles = new Map(); // place in `shown` -> element
let columns = 1;
const size = () => 132;
const rowHeight = () => size() + 24;

function draw(anew = false) {
  columns = Math.max(1, Math.floor(grid.clientWidth / size()));
  const rows = Math.ceil(shown.length / columns);
  $("sheet").style.height = `${rows * rowHeight()}px`;
  if (anew) { for (const tile of tiles.values()) tile.remove(); tiles.clear(); }
  const first = Math.max(0, Math.floor(grid.scrollTop / rowHeight()) - 1) * columns;
  const last = Math.min(shown.length, (Math.ceil((grid.scrollTop + grid.clientHeight) / rowHeight()) + 1) * columns);
  for (const [at, tile] of tiles) if (at < first || at >= last) { tile.remove(); tiles.delete(at); }
  const width = grid.clientWidth / columns;
  for (let at = first; at < last; at++) {
    let tile = tiles.get(at);
    if (!tile) { tile = makeTile(at); tiles.set(at, tile); $("sheet").append(tile); }
    Object.assign(tile.style, { width: `${width}px`, height: `${rowHeight()}px`,
      left: `${(at % columns) * width}px`, top: `${Math.floor(at / columns) * rowHeight()}px` });
  }
}

function makeTile(at) {
  const place = shown[at];
  const image = element("img", { src: `thumb/${all.id[place]}`, alt: "", decoding: "async", draggable: false });
  const text = element("p", {}, element("b", { textContent: className(place) }), ` ${all.score[place].toFixed(3)}`);
  const tile = element("div", { className: "tile", id: `tile-${all.id[place]}` }, element("div", {}, image, text));
  tile.setAttribute("role", "option");
  tile.setAttribute("aria-setsize", shown.length);
  tile.setAttribute("aria-posinset", at + 1);
  tile.classList.toggle("suspect", Boolean(all.suspect[place]));
  tile.addEventListener("click", () => { choose(at); grid.focus(); });
  dress(tile, place, at === current);
  return tile;
}

function className(place) { return all.classes[all.target[place]] ?? "?"; }

function words(place) {
  const [mark, label] = markOf(place);
  return `${className(place)}, score ${all.score[place].toFixed(3)}${all.suspect[place] ? ", suspect" : ""}, `
    + (mark ? `marked ${mark}${label ? `, it is ${label}` : ""}` : "not marked");
}

function dress(tile, place, chosen) {
  const [mark, label] = markOf(place);
  if (mark) tile.dataset.mark = mark; else delete tile.dataset.mark;
  tile.querySelector(".badge")?.remove();
  if (mark) tile.firstChild.append(element("span", { className: "badge", textContent: label ? `→ ${label}` : mark }));
  tile.setAttribute("aria-selected", chosen);
  tile.setAttribute("aria-label", `${words(place)}, ${all.name[place].split("/").pop()}`);
}

function paint(place) {
  for (const [at, tile] of tiles) if (shown[at] === place) dress(tile, place, at === current);
  if (shown[current] === place) aside();
}

function choose(at) {
  const before = current;
  current = Math.min(Math.max(0, at), Math.max(0, shown.length - 1));
  const top = Math.floor(current / columns) * rowHeight();
  if (top < grid.scrollTop) grid.scrollTop = top;
  else if (top + rowHeight() > grid.scrollTop + grid.clientHeight) grid.scrollTop = top + rowHeight() - grid.clientHeight;
  draw();
  for (const each of [before, current]) if (tiles.has(each)) dress(tiles.get(each), shown[each], each === current);
  aside();
  remember();
  if (map.open) map.choose();
}

function aside() {
  const place = shown[current];
  $("side").style.visibility = place === undefined ? "hidden" : "visible";
  if (place === undefined) { grid.removeAttribute("aria-activedescendant"); return; }
  grid.setAttribute("aria-activedescendant", `tile-${all.id[place]}`);
  const [mark, label] = markOf(place), source = `image/${all.id[place]}`;
  if ($("large").getAttribute("src") !== source) $("large").src = source;
  $("large").alt = className(place);
  $("name").textContent = all.name[place];
  $("about").textContent = `${words(place)}; ${current + 1} of ${shown.length}`;
  for (const button of $("buttons").children) button.setAttribute("aria-pressed", button.dataset.mark === mark);
  $("right-line").hidden = mark !== "wrong label";
  $("right").value = label;
}

function tell() {
  $("progress").textContent = `marked ${count.shown} of ${shown.length} shown` +
    (shown.length === all.id.length ? "" : ` (${count.all} of ${all.id.length} in all)`);
  $("bar").max = Math.max(1, shown.length);
  $("bar").value = count.shown;
}

// ---- what keys and buttons do

function mark(kind, label = "") {
  if (shown[current] === undefined) return;
  setMark(shown[current], kind, label);
  if (kind) choose(current + 1);
}

function undo() {
  const last = undone.pop();
  if (!last) return;
  setMark(last[0], last[1], last[2], false);
  const at = shown.indexOf(last[0]);
  if (at >= 0) choose(at);
}

async function similar() {
  const place = shown[current];
  if (place === undefined) return;
  $("ways").textContent = "comparing images …";
  try {
    const said = await ask(`near/${all.id[place]}`);
    near = said.distance;
    near[place] = -1; // the image itself is the first
    $("nearest").hidden = false;
    $("order").value = "near";
    $("ways").textContent = `Most similar to ${all.name[place]} first, by ${said.words}. Esc: back to the order by rank.`;
    if (map.open) map.show(false);
    refresh(true);
    grid.focus();
  } catch (error) { $("ways").textContent = `They cannot be compared: ${error.message}`; }
}

function back() {
  if (map.open) map.show(false);
  else if (near) { near = null; $("nearest").hidden = true; $("order").value = "rank"; $("ways").textContent = ""; refresh(); }
  grid.focus();
}

const page = () => Math.max(1, Math.floor(grid.clientHeight / rowHeight())) * columns;
const MOVES = { ArrowLeft: () => -1, ArrowRight: () => 1, ArrowUp: () => -columns, ArrowDown: () => columns,
  PageUp: () => -page(), PageDown: () => page(), Home: () => -shown.length, End: () => shown.length };

document.addEventListener("keydown", (event) => {
  if (!all || event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  const key = event.key;
  if (key === "Escape") { back(); event.preventDefault(); return; }
  if (event.target.matches("select, input")) return;
  if (event.target.matches("button, summary") && (key === " " || key === "Enter")) return;
  const act = MOVES[key] ? () => choose(current + MOVES[key]())
    : KEYS[key.toLowerCase()] ? () => mark(KEYS[key.toLowerCase()])
    : /^[1-9]$/.test(key) && all.classes[key - 1] !== undefined ? () => mark("wrong label", all.classes[key - 1])
    : { " ": () => mark(""), Backspace: () => mark(""), z: undo, s: similar, m: () => map.show(!map.open), "?": help }[key];
  if (act) { event.preventDefault(); act(); }
});

function help() { $("help").showModal(); }

function listKeys() {
  const numbered = all.classes.slice(0, 9).map((name, i) => `${i + 1} ${name}`).join(", ");
  const lines = [["arrows, Page, Home, End", "move"], ...Object.entries(KEYS), ["1 to 9", `wrong label, and it is: ${numbered}`],
    ["space, backspace", "clear the mark"], ["z", "undo"], ["s", "order by similarity to this image"],
    ["m", "map"], ["Esc", "back to the grid, then to the order by rank"]];
  for (const [key, what] of lines) $("keys").append(element("dt", {}, element("kbd", { textContent: key })), element("dd", { textContent: what }));
}

async function begin() {
  all = await ask("state");
  take(all.marks);
  document.title = `Review ${all.title}`;
  $("title").textContent = `Review ${all.title}`;
  document.body.classList.toggle("pixels", all.pixels <= 64);
  all.classes.forEach((name, i) => {
    $("class").append(element("option", { value: i, textContent: name }));
    $("right").append(element("option", { value: name, textContent: name }));
  });
  for (const kind of all.kinds) $("mark").append(element("option", { value: kind, textContent: kind }));
  for (const [key, kind] of Object.entries(KEYS)) {
    const button = element("button", { type: "button" }, element("kbd", { textContent: key }), ` ${kind}`);
    button.dataset.mark = kind;
    button.addEventListener("click", () => { mark(markOf(shown[current])[0] === kind ? "" : kind); });
    $("buttons").append(button);
  }
  if (all.umap) $("way").append(element("option", { value: "umap", textContent: "UMAP" }));
  if (all.missing.length) {
    $("missing").hidden = false;
    $("missing-head").textContent = `${all.missing.length} images are missing`;
    for (const [name, why] of all.missing) $("missing-list").append(element("li", { textContent: `${name} ${why}` }));
  }
  listKeys();
  recall();
  for (const id of ["class", "mark", "suspects", "low", "high", "order"]) $(id).addEventListener("change", () => {
    if ($("order").value !== "near" && near) { near = null; $("nearest").hidden = true; $("ways").textContent = ""; }
    refresh();
  });
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("right").addEventListener("change", () => setMark(shown[current], "wrong label", $("right").value));
  $("similar").addEventListener("click", similar);
  $("to-map").addEventListener("click", () => map.show(!map.open));
  $("to-help").addEventListener("click", help);
  let waiting = false;
  grid.addEventListener("scroll", () => {
    if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; draw(); }); }
  });
  new ResizeObserver(() => { draw(); if (map.open) map.draw(); }).observe(grid);
  $("nothing").hidden = shown.length > 0;
  draw(true);
  choose(current);
  keeping();
  grid.focus();
  document.body.dataset.ready = "yes";
}

window.addEventListener("DOMContentLoaded", () => begin().catch((error) => keeping(`The page cannot be filled: ${error.message}`)));
