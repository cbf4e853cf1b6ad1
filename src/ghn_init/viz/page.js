"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const ROW = 0, FOLD = 2; // kinds of units; 1 is a module
  const units = data.units.map(([parent, y, height, kind]) => ({parent, y, height, kind, inner: []}));
  units.forEach((unit, k) => unit.parent >= 0 && units[unit.parent].inner.push(k));
  units.forEach((unit) => { unit.depth = unit.parent < 0 ? 0 : units[unit.parent].depth + 1; });
  const open = []; // by unit; `folded` says which are at first

  // For each unit -1 where it is shown, else the unit at whose border its wires end: a closed module, or a folded block.
  function hiders() {
    const found = [];
    units.forEach((unit, k) => {
      const p = unit.parent;
      if (p < 0) found[k] = -1;
      else if (found[p] >= 0) found[k] = found[p];
      else if (open[p]) found[k] = -1;
      else if (units[p].kind !== FOLD) found[k] = p;
      else found[k] = units[p].inner[0] === k ? -1 : k;
    });
    return found;
  }

  // What hidden units leave free, without what is still shown beside them: disjoint intervals from top to bottom.
  function free(hidden) {
    const marks = [];
    const add = (from, to, gone, shown) => from < to && marks.push([from, gone, shown], [to, -gone, -shown]);
    units.forEach((unit, k) => {
      if (hidden[k] >= 0) return;
      const end = unit.y + unit.height;
      if (unit.kind === ROW) return add(unit.y, end, 0, 1);
      add(unit.y, unit.y + data.header, 0, 1);
      if (open[k]) return add(end - 8, end, 0, 1);
      if (unit.kind !== FOLD) return add(unit.y + data.header, end, 1, 0);
      unit.inner.slice(1).forEach((j, i) => {
        const above = units[unit.inner[i]];
        add(above.y + above.height, units[j].y + units[j].height, 1, 0);
      });
    });
    marks.sort((a, b) => a[0] - b[0]);
    const found = [];
    let gone = 0, shown = 0;
    marks.forEach(([y, g, s], k) => {
      gone += g;
      shown += s;
      const next = k + 1 < marks.length ? marks[k + 1][0] : y;
      if (gone > 0 && shown === 0 && next > y) found.push([y, next]);
    });
    return found;
  }

  // The height at which a height is shown.
  function shift(intervals) {
    const sums = [0];
    intervals.forEach(([from, to]) => sums.push(sums[sums.length - 1] + to - from));
    return (y) => {
      let low = 0, high = intervals.length; // intervals before low begin above y
      while (low < high) {
        const middle = (low + high) >> 1;
        if (intervals[middle][0] < y) low = middle + 1; else high = middle;
      }
      if (low === 0) return y;
      return y - sums[low - 1] - (Math.min(intervals[low - 1][1], y) - intervals[low - 1][0]);
    };
  }

  function curve(points) {
    let d = "M" + points[0].join(" ");
    for (let k = 1; k < points.length; k++) {
      const [x, y] = points[k - 1], [x2, y2] = points[k], middle = (y + y2) / 2;
      d += x === x2 ? "V" + y2 : "C" + [x, middle, x2, middle, x2, y2].join(" ");
    }
    return d;
  }

  const wires = data.edges.map(([a, b, flat], k) => {
    const points = [];
    for (let i = 0; i < flat.length; i += 2) points.push([flat[i], flat[i + 1]]);
    const element = byId("e" + k);
    return {a, b, points, element, line: element.querySelector(".ghn-edge"), tip: element.querySelector(".ghn-arrow")};
  });

  // Where a wire is at a height; it goes straight down through every border.
  function at(points, y) {
    for (let k = 1; k < points.length; k++) if (points[k][1] >= y) return points[k - 1][1] >= y ? points[k - 1][0] : points[k][0];
    return points[points.length - 1][0];
  }

  const bottom = (k) => units[k].y + units[k].height;
  function within(k, outer) {
    while (k >= 0 && k !== outer) k = units[k].parent;
    return k === outer;
  }

  function drawWire(wire, hidden, place) {
    const from = hidden[wire.a], to = hidden[wire.b], end = wire.points[wire.points.length - 1];
    const fold = (k) => (k >= 0 && hidden[k] >= 0 ? units[k].parent : -1); // of a block that isn't shown
    let gone = (from >= 0 && from === to) || (fold(to) >= 0 && (fold(from) === fold(to) || !within(wire.a, fold(to))));
    let way = wire.points;
    if (from >= 0) {
      const start = bottom(fold(from) < 0 ? from : units[fold(from)].inner.at(-1));
      way = [[at(way, start), start], ...way.filter(([, y]) => y > start)];
    }
    if (to >= 0) {
      const stop = fold(to) < 0 ? units[to].y : bottom(units[fold(to)].inner[0]);
      way = [...way.filter(([, y]) => y < stop), [at(wire.points, stop), stop]];
    }
    let shown = way.map(([x, y]) => [x, place(y)]);
    if (from >= 0 && hidden[from] < 0) shown[0][1] = place(units[from].y) + data.header;
    const last = shown[shown.length - 1], length = last[1] - shown[0][1];
    gone ||= way.length < 2 || length < 1;
    wire.element.style.display = gone ? "none" : "";
    wire.tip.style.display = fold(to) >= 0 ? "none" : "";
    wire.tip.setAttribute("transform", `translate(${last[0] - end[0]} ${last[1] - end[1]})`);
    if (wire.tip.style.display === "") {
      const stop = last[1] - 5; // where the tip begins
      shown = [...shown.slice(0, -1).filter(([, y], k) => k === 0 || y < stop), [last[0], stop]];
    }
    wire.line.setAttribute("d", curve(shown));
  }

  let place = (y) => y;
  function update() {
    const hidden = hiders();
    place = shift(free(hidden));
    units.forEach((unit, k) => {
      const moved = `translate(0 ${place(unit.y) - unit.y})`, display = hidden[k] >= 0 ? "none" : "";
      const top = byId((unit.kind === ROW ? "r" : "h") + k);
      top.style.display = display;
      top.setAttribute("transform", moved);
      if (unit.kind === ROW) return;
      const frame = byId("u" + k), height = Math.max(place(unit.y + unit.height) - place(unit.y), data.header);
      const shut = !open[k] && unit.kind !== FOLD;
      frame.style.display = display;
      frame.setAttribute("transform", moved);
      frame.querySelector("rect").setAttribute("height", shut ? data.header : height);
      top.querySelector(".mark").textContent = open[k] ? "▾" : "▸";
      top.setAttribute("aria-expanded", open[k]);
    });
    wires.forEach((wire) => drawWire(wire, hidden, place));
    return hidden;
  }

  // Zoom and pan
  const picture = byId("picture"), view = byId("view");
  let scale = 1, left = 0, top = 0;
  function show() {
    view.setAttribute("transform", `translate(${left} ${top}) scale(${scale})`);
  }
  function zoom(factor, x, y) {
    const next = Math.min(Math.max(scale * factor, 0.02), 8);
    left = x - (x - left) * next / scale;
    top = y - (y - top) * next / scale;
    scale = next;
    show();
  }
  function fit() {
    const {clientWidth: w, clientHeight: h} = picture, height = place(data.height);
    scale = Math.min(1.25, (w - 40) / data.width, Math.max((h - 40) / height, 0.75));
    left = (w - data.width * scale) / 2;
    top = 20;
    show();
  }
  const centre = () => [picture.clientWidth / 2, picture.clientHeight / 2];
  picture.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = picture.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.clientX - box.left, event.clientY - box.top);
  }, {passive: false});
  const held = new Map(); // pointers that are down
  picture.addEventListener("pointerdown", (event) => held.set(event.pointerId, [event.clientX, event.clientY]));
  picture.addEventListener("pointermove", (event) => {
    const before = held.get(event.pointerId);
    if (!before) return;
    const now = [event.clientX, event.clientY], other = [...held].find(([id]) => id !== event.pointerId);
    if (other) {
      const [x, y] = other[1], box = picture.getBoundingClientRect();
      const apart = ([px, py]) => Math.hypot(px - x, py - y) || 1;
      zoom(apart(now) / apart(before), x - box.left, y - box.top);
    } else {
      left += now[0] - before[0];
      top += now[1] - before[1];
      if (!picture.classList.contains("held")) picture.setPointerCapture(event.pointerId);
      picture.classList.add("held");
      show();
    }
    held.set(event.pointerId, now);
  });
  for (const kind of ["pointerup", "pointercancel"]) picture.addEventListener(kind, (event) => {
    held.delete(event.pointerId);
    setTimeout(() => picture.classList.remove("held"));
  });

  // Modules and folds
  function toggle(k) {
    open[k] = !open[k];
    update();
  }
  units.forEach((unit, k) => {
    if (unit.kind === ROW) return;
    const title = byId("h" + k);
    title.addEventListener("click", () => picture.classList.contains("held") || toggle(k));
    title.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      toggle(k);
    });
  });
  // Everything open but folds; of large graphs only so many levels as can be looked at.
  function folded() {
    const deepest = units.reduce((most, unit) => Math.max(most, unit.depth), 0);
    for (let depth = deepest; depth >= 0; depth--) {
      units.forEach((unit, k) => { open[k] = unit.kind !== FOLD && unit.depth < depth; });
      const hidden = hiders();
      if (units.filter((unit, k) => hidden[k] < 0 && (unit.kind === ROW || !open[k])).length <= data.most) return;
    }
    units.forEach((unit, k) => { open[k] = unit.kind !== FOLD; });
  }

  // Search
  const nodes = [...document.querySelectorAll(".ghn-node")].map((element) => (
    {element, names: data.names[element.dataset.node].toLowerCase(), unit: Number(element.closest(".row").id.slice(1))}));
  const search = byId("search"), found = byId("found");
  let hits = [], next = 0;
  search.addEventListener("input", () => {
    const wanted = search.value.trim().toLowerCase();
    hits = wanted ? nodes.filter((node) => node.names.includes(wanted)) : [];
    next = 0;
    nodes.forEach((node) => node.element.classList.toggle("hit", hits.includes(node)));
    picture.classList.toggle("searching", hits.length > 0);
    found.textContent = wanted ? `${hits.length} found` : "";
  });
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || hits.length === 0) return;
    const node = hits[next % hits.length], number = (next % hits.length) + 1;
    for (let k = units[node.unit].parent; k >= 0; k = units[k].parent) open[k] = true;
    update();
    next += 1;
    found.textContent = `${number} of ${hits.length}`;
    const box = node.element.getBBox(), [x, y] = centre();
    scale = Math.max(scale, 0.8);
    left = x - (box.x + box.width / 2) * scale;
    top = y - (box.y + place(units[node.unit].y) - units[node.unit].y) * scale;
    show();
  });

  // Colours
  function colour(scheme) {
    for (const {element} of nodes) {
      const [fill, ink] = data.colours[scheme][element.dataset.node];
      element.querySelector("rect").setAttribute("fill", fill);
      element.querySelectorAll("text").forEach((text) => text.setAttribute("fill", ink));
    }
    document.querySelectorAll(".legend").forEach((legend) => { legend.hidden = legend.dataset.scheme !== scheme; });
  }
  const scheme = byId("scheme");
  if (scheme) scheme.addEventListener("change", () => colour(scheme.value));
  colour(scheme ? scheme.value : Object.keys(data.colours)[0]);

  byId("open").addEventListener("click", () => { open.fill(true); update(); });
  byId("close").addEventListener("click", () => { folded(); update(); fit(); });
  byId("in").addEventListener("click", () => zoom(1.3, ...centre()));
  byId("out").addEventListener("click", () => zoom(1 / 1.3, ...centre()));
  byId("fit").addEventListener("click", fit);
  folded();
  update();
  fit();
})();
