// ---- the map: a canvas on which similar images lie near each other, coloured by class or by mark

const canvas = $("canvas");
const map = {
  open: false,
  points: {}, // way -> { x, y }
  view: { x: 0, y: 0, zoom: 1 },
  drawn: document.createElement("canvas"), // all but the ring of the image that is chosen

  async show(open) {
    map.open = open;
    $("map").hidden = !open;
    grid.hidden = open;
    $("to-map").setAttribute("aria-pressed", open);
    if (!open) { draw(true); choose(current); return; }
    const way = $("way").value;
    canvas.focus();
    if (!map.points[way]) {
      $("map-says").textContent = "computing the map …";
      try { map.points[way] = await ask(`map/${way}`); } catch (error) {
        $("map-says").textContent = `There is no map: ${error.message}`;
        return;
      }
    }
    $("map-says").textContent = `by ${all.likeness}; wheel or + and - zoom, dragging moves, a click chooses`;
    map.draw();
  },

  colour(place) {
    if ($("colour").value === "target") return map.ofClass(all.target[place]);
    const kind = markOf(place)[0];
    return kind ? map.variable(`--${kind.replace(" ", "-")}`) : map.variable("--line");
  },

  ofClass(number) {
    const known = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#b8a800"];
    return known[number] ?? `hsl(${(number * 137.5) % 360} 60% 50%)`;
  },

  variable(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); },

  // Says where an image is on the canvas, in its pixels.
  where() {
    const { x, y } = map.points[$("way").value], { width, height } = canvas.getBoundingClientRect(), edge = 20;
    const { zoom, x: left, y: top } = map.view;
    return (place) => [((x[place] - 0.5 - left) * zoom + 0.5) * (width - 2 * edge) + edge,
      ((y[place] - 0.5 - top) * zoom + 0.5) * (height - 2 * edge) + edge];
  },

  radius() { return Math.max(2, Math.min(6, 120 / Math.sqrt(shown.length))) * Math.min(2, Math.sqrt(map.view.zoom)); },

  draw() {
    if (!map.points[$("way").value]) return;
    const { width, height } = canvas.getBoundingClientRect(), scale = window.devicePixelRatio || 1;
    canvas.width = map.drawn.width = width * scale;
    canvas.height = map.drawn.height = height * scale;
    const pen = map.drawn.getContext("2d"), byMark = $("colour").value === "mark";
    pen.scale(scale, scale);
    const radius = map.radius(), ink = map.variable("--ink");
    // Marked ones are drawn last, and so lie on top.
    const order = byMark ? [...shown].sort((a, b) => Boolean(markOf(a)[0]) - Boolean(markOf(b)[0])) : shown;
    const colours = new Map(), where = map.where();
    for (const place of order) {
      const key = byMark ? markOf(place)[0] : all.target[place];
      if (!colours.has(key)) colours.set(key, map.colour(place));
      const [x, y] = where(place);
      if (x < -9 || y < -9 || x > width + 9 || y > height + 9) continue;
      pen.globalAlpha = byMark && !key ? 0.6 : 0.85;
      pen.fillStyle = colours.get(key);
      // So small a disc is a square.
      if (radius <= 2 && !all.suspect[place]) { pen.fillRect(x - 1.5, y - 1.5, 3, 3); continue; }
      pen.beginPath();
      pen.arc(x, y, radius, 0, 2 * Math.PI);
      pen.fill();
      if (all.suspect[place]) { pen.globalAlpha = 1; pen.lineWidth = 1; pen.strokeStyle = ink; pen.stroke(); }
    }
    map.choose();
    map.legend(byMark);
  },

  // The ring moves, the points stay.
  choose() {
    if (!map.points[$("way").value]) return;
    const pen = canvas.getContext("2d"), scale = window.devicePixelRatio || 1;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(map.drawn, 0, 0);
    if (shown[current] === undefined) return;
    const [x, y] = map.where()(shown[current]);
    pen.scale(scale, scale);
    pen.lineWidth = 3;
    pen.strokeStyle = map.variable("--accent");
    pen.beginPath();
    pen.arc(x, y, map.radius() + 6, 0, 2 * Math.PI);
    pen.stroke();
  },

  legend(byMark) {
    const names = byMark ? [...all.kinds, "not marked"] : all.classes;
    $("legend").replaceChildren(...names.slice(0, 60).map((name, i) => {
      const dot = element("i", {});
      dot.style.background = byMark ? map.variable(name === "not marked" ? "--line" : `--${name.replace(" ", "-")}`) : map.ofClass(i);
      return element("span", {}, dot, name);
    }), element("span", { className: "grey", textContent: "outlined: suspects" }));
  },

  nearest(event) {
    const { left, top } = canvas.getBoundingClientRect(), where = map.where();
    let best = -1, least = 15 ** 2;
    shown.forEach((place, at) => {
      const [x, y] = where(place), distance = (x - event.clientX + left) ** 2 + (y - event.clientY + top) ** 2;
      if (distance < least) { least = distance; best = at; }
    });
    return best;
  },

  zoom(factor, event) {
    const { left, top, width, height } = canvas.getBoundingClientRect(), view = map.view;
    const x = event ? (event.clientX - left) / width - 0.5 : 0, y = event ? (event.clientY - top) / height - 0.5 : 0;
    const zoom = Math.min(60, Math.max(1, view.zoom * factor));
    view.x += x / view.zoom - x / zoom;
    view.y += y / view.zoom - y / zoom;
    if (zoom === 1) { view.x = 0; view.y = 0; }
    view.zoom = zoom;
    map.draw();
  },
};

let drag = null;
canvas.addEventListener("pointerdown", (event) => { drag = { x: event.clientX, y: event.clientY, moved: false }; canvas.setPointerCapture(event.pointerId); });
canvas.addEventListener("pointermove", (event) => {
  if (!map.points[$("way").value]) return;
  if (drag) {
    const { width, height } = canvas.getBoundingClientRect(), dx = event.clientX - drag.x, dy = event.clientY - drag.y;
    if (!drag.moved && Math.hypot(dx, dy) < 4) return;
    map.view.x -= dx / width / map.view.zoom;
    map.view.y -= dy / height / map.view.zoom;
    drag = { x: event.clientX, y: event.clientY, moved: true };
    map.draw();
    return;
  }
  const at = map.nearest(event);
  $("tip").hidden = at < 0;
  if (at < 0) return;
  const place = shown[at], { left, top, width, height } = canvas.getBoundingClientRect();
  if ($("tip-image").getAttribute("src") !== `thumb/${all.id[place]}`) $("tip-image").src = `thumb/${all.id[place]}`;
  $("tip-text").textContent = words(place);
  $("tip").style.left = `${Math.min(event.clientX - left + 14, width - 150)}px`;
  $("tip").style.top = `${Math.min(event.clientY - top + 14, height - 200)}px`;
});
canvas.addEventListener("pointerup", (event) => {
  if (drag && !drag.moved && map.points[$("way").value]) { const at = map.nearest(event); if (at >= 0) choose(at); }
  drag = null;
});
canvas.addEventListener("pointerleave", () => { $("tip").hidden = true; });
canvas.addEventListener("wheel", (event) => { event.preventDefault(); map.zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, event); }, { passive: false });
canvas.addEventListener("keydown", (event) => {
  if (event.key === "+" || event.key === "=") map.zoom(1.3);
  if (event.key === "-") map.zoom(1 / 1.3);
});
$("whole").addEventListener("click", () => { map.view = { x: 0, y: 0, zoom: 1 }; map.draw(); });
$("colour").addEventListener("change", () => map.draw());
$("way").addEventListener("change", () => map.show(true));
