"use strict";
document.documentElement.classList.remove("no-js");
const data = JSON.parse(document.getElementById("data").textContent);

/* An element of HTML or, with the prefix "svg:", of SVG. */
function make(name, attributes = {}, ...children) {
  const svg = name.startsWith("svg:");
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/* Tables: sort by a heading, filter by method, choose columns. */

function sortKey(cell, numeric) {
  const text = cell.textContent.trim();
  if (!numeric) return text.toLowerCase();
  const found = text.replaceAll(",", "").replaceAll("\u2212", "-").match(/[-+]?\d+(\.\d+)?(e[-+]?\d+)?/i);
  return found ? Number(found[0]) : null;
}

function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = make("button", { type: "button" }, head.textContent);
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const numeric = head.classList.contains("number");
      const before = head.getAttribute("aria-sort");
      const ascending = before ? before === "descending" : !numeric;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows].map((row) => [sortKey(row.cells[column], numeric), row]);
      rows.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null); // what is not known comes last
        return (ascending ? 1 : -1) * (numeric ? a - b : a.localeCompare(b, "en"));
      });
      table.tBodies[0].append(...rows.map(([, row]) => row));
    });
  });
}

function makeFilterable(group, changed) {
  const input = group.querySelector("input[type=search]");
  if (!input) return;
  input.addEventListener("input", () => {
    const rows = [...group.querySelectorAll("table.methods tbody tr")];
    for (const row of rows) row.hidden = !matches(group, row.cells[0].textContent);
    const own = [...group.querySelectorAll("table.results tbody tr")];
    const left = own.filter((row) => !row.hidden).length;
    group.querySelector("output").textContent = `${left} of ${own.length} methods`;
    changed();
  });
}

function matches(group, label) {
  const input = group.querySelector("input[type=search]");
  return !input || label.toLowerCase().includes(input.value.trim().toLowerCase());
}

function makeChoosable(group) {
  const table = group.querySelector("table.results");
  const field = group.querySelector(".choice fieldset");
  if (!table) return;
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (column === 0) return;
    const box = make("input", { type: "checkbox" });
    const show = () => { for (const row of table.rows) row.cells[column].hidden = !box.checked; };
    box.checked = !head.classList.contains("extra");
    box.addEventListener("change", show);
    field.append(make("label", {}, box, " ", head.textContent));
    show();
  });
}

/* The plot of any two metrics. */

function ticks(low, high, log) {
  const found = [];
  if (log) {
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
      for (const digit of [1, 2, 5]) found.push(digit * 10 ** power);
  } else {
    const rough = (high - low) / 5;
    const size = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map((m) => m * size).find((s) => s >= rough);
    for (let i = Math.ceil(low / step); i * step <= high; i++) found.push(i * step);
  }
  return found.filter((value) => value >= low && value <= high);
}

function tickText(value) {
  const large = Math.abs(value) >= 1e5;
  const style = large ? { notation: "compact", maximumSignificantDigits: 3 } : { maximumSignificantDigits: 6 };
  return new Intl.NumberFormat("en", style).format(value);
}

/* A function from values to pixels, with its range of values. */
function makeScale(values, from, to, log) {
  let low = Math.min(...values), high = Math.max(...values);
  const place = log ? Math.log : (value) => value;
  const pad = ((place(high) - place(low)) || (log ? 1 : Math.abs(high) || 1)) * 0.09;
  const [start, end] = [place(low) - pad, place(high) + pad];
  const scale = (value) => from + ((place(value) - start) / (end - start)) * (to - from);
  const edges = log ? [Math.exp(start), Math.exp(end)] : [low >= 0 ? Math.max(0, start) : start, end];
  scale.ticks = ticks(...edges, log);
  return scale;
}

/* Points on the Pareto front of accuracy against a cost, by the rule of the figures (reports/figures/tradeoff.py): those
   that the verdicts tell apart from every cheaper one; costs within a declared share are one cost, of which the most
   accurate may enter. */
function paretoFront(placed, cost) {
  const sign = cost.direction === "lower" ? 1 : -1;
  const cheaper = (a, b) => sign * (b.x - a.x) > data.same * Math.min(Math.abs(a.x), Math.abs(b.x));
  const enters = (p) => placed.every((o) =>
    cheaper(o, p) ? p.point.outdone.includes(o.point.label) : cheaper(p, o) || o.y <= p.y);
  return placed.filter(enters).sort((a, b) => sign * (a.x - b.x));
}

function axisName(metric) {
  return metric.unit ? `${metric.label} (${metric.unit})` : metric.label;
}

function markShape(point, size) {
  const colour = point.colour === "#000000" ? "currentColor" : point.colour;
  return make("svg:path", { d: point.path, fill: colour, transform: `scale(${size})` });
}

function makePlot(group) {
  const figure = group.querySelector(".plot");
  if (!figure) return () => {};
  const points = data.groups[group.id];
  const [xChoice, yChoice] = ["x", "y"].map((axis) => figure.querySelector(`[data-axis=${axis}]`));
  const logBox = figure.querySelector("input[type=checkbox]");
  const caption = figure.querySelector("figcaption");
  const area = figure.querySelector(".drawing");
  const tip = make("div", { class: "tip", "aria-hidden": "true" });
  tip.hidden = true;
  const known = data.metrics.filter((metric) => points.some((point) => point.values[metric.name]));
  for (const [choice, first] of [[xChoice, "trainable_params"], [yChoice, "macro_accuracy"]]) {
    for (const metric of known) choice.append(make("option", { value: metric.name }, axisName(metric)));
    if (known.some((metric) => metric.name === first)) choice.value = first;
  }
  const legend = make("ul", { class: "legend", "aria-hidden": "true" });
  for (const point of points)
    legend.append(make("li", {}, make("svg:svg", { viewBox: "-8 -8 16 16" }, markShape(point, 15)), point.label));

  function describe(point, x, y) {
    const lines = [point.label];
    for (const metric of new Set([x, y])) {
      const bounds = metric.name === "macro_accuracy" && point.interval;
      const sure = bounds ? `, 95% interval ${bounds[0].toFixed(1)} to ${bounds[1].toFixed(1)}` : "";
      lines.push(`${metric.label}: ${point.values[metric.name][1]} ${metric.unit}${sure}`);
    }
    return lines;
  }

  function draw() {
    const [x, y] = [xChoice, yChoice].map((choice) => known.find((metric) => metric.name === choice.value));
    if (!x || !y) return;
    const log = logBox.checked;
    const wanted = points.filter((point) => matches(group, point.label));
    const measured = wanted.filter((point) => point.values[x.name] && point.values[y.name]);
    const shown = measured.filter((point) => !log || point.values[x.name][0] > 0);
    const left = wanted.filter((point) => !shown.includes(point)).map((point) => point.label);
    tip.hidden = true;
    if (!shown.length) {
      area.replaceChildren(tip);
      caption.textContent = "No point to draw.";
      return;
    }
    const width = Math.max(280, area.clientWidth || 800);
    const height = Math.round(Math.min(480, Math.max(300, 0.6 * width)));
    const [top, right, bottom, margin] = [12, 18, 48, 62];
    const values = (metric) => shown.flatMap((point) =>
      metric.name === "macro_accuracy" && point.interval ? point.interval : [point.values[metric.name][0]]);
    const across = makeScale(values(x), margin, width - right, log);
    const up = makeScale(values(y), height - bottom, top, false);
    const placed = shown.map((point) => ({ point, x: point.values[x.name][0], y: point.values[y.name][0] }));
    const svg = make("svg:svg", { viewBox: `0 0 ${width} ${height}`, role: "group",
      "aria-label": `${y.label} against ${x.label}` });
    const line = (kind, x1, y1, x2, y2) => svg.append(make("svg:line", { class: kind, x1, y1, x2, y2 }));
    const text = (content, attributes) => svg.append(make("svg:text", attributes, content));

    for (const value of across.ticks) {
      line("grid", across(value), top, across(value), height - bottom);
      text(tickText(value), { x: across(value), y: height - bottom + 16, "text-anchor": "middle" });
    }
    for (const value of up.ticks) {
      line("grid", margin, up(value), width - right, up(value));
      text(tickText(value), { x: margin - 6, y: up(value) + 4, "text-anchor": "end" });
    }
    line("axis", margin, height - bottom, width - right, height - bottom);
    line("axis", margin, top, margin, height - bottom);
    text(axisName(x) + (log ? ", logarithmic" : ""), {
      class: "x-name", x: (margin + width - right) / 2, y: height - 8, "text-anchor": "middle" });
    const middle = (top + height - bottom) / 2;
    text(axisName(y), { class: "y-name", x: 14, y: middle, "text-anchor": "middle", transform: `rotate(-90 14 ${middle})` });

    const front = y.name === "macro_accuracy" && x.name !== y.name ? paretoFront(placed, x) : [];
    if (front.length > 1) {
      const steps = front.map((p, i) => `${i ? `H${across(p.x)}V` : `M${across(p.x)} `}${up(p.y)}`);
      svg.append(make("svg:path", { class: "front", d: steps.join("") }));
    }

    const marks = [], taken = placed.map((p) => [across(p.x) - 8, up(p.y) - 8, 16, 16]);
    for (const { point, x: a, y: b } of placed) {
      const [px, py] = [across(a), up(b)];
      const lines = describe(point, x, y);
      const mark = make("svg:a", { class: "mark", "aria-label": lines.join("; "), href: point.link });
      const bars = { stroke: point.colour === "#000000" ? "currentColor" : point.colour, "stroke-width": 1.3 };
      const [low, high] = point.interval || [];
      if (point.interval && y.name === "macro_accuracy")
        mark.append(make("svg:line", { class: "bar", x1: px, x2: px, y1: up(low), y2: up(high), ...bars }));
      if (point.interval && x.name === "macro_accuracy")
        mark.append(make("svg:line", { class: "bar", x1: across(low), x2: across(high), y1: py, y2: py, ...bars }));
      mark.append(make("svg:circle", { cx: px, cy: py, r: 13, fill: "transparent" }));
      mark.append(make("svg:g", { transform: `translate(${px} ${py})` }, markShape(point, 13)));
      const show = () => {
        tip.textContent = lines.join("\n");
        tip.hidden = false;
        const scale = svg.clientWidth / width;
        tip.style.left = `${Math.max(0, Math.min(px * scale + 12, area.clientWidth - tip.offsetWidth))}px`;
        tip.style.top = `${Math.max(0, py * scale - tip.offsetHeight - 10) + svg.getBoundingClientRect().top - figure.getBoundingClientRect().top}px`;
      };
      const hide = () => { tip.hidden = true; };
      for (const event of ["mouseenter", "focus"]) mark.addEventListener(event, show);
      for (const event of ["mouseleave", "blur"]) mark.addEventListener(event, hide);
      mark.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
      marks.push(mark);
      const [wide, tall] = [6.6 * point.label.length, 13];
      const spots = [11, -11 - wide].flatMap((dx) => [-tall - 2, -tall / 2, 2].map((dy) => [dx, dy]));
      const spot = spots.map(([dx, dy]) => [px + dx, py + dy, wide, tall]).find(([bx, by, w, h]) =>
        bx > margin && bx + w < width - 2 && by > 0 && by + h < height - bottom &&
        !taken.some(([cx, cy, cw, ch]) => bx < cx + cw && cx < bx + w && by < cy + ch && cy < by + h));
      if (spot) {
        taken.push(spot);
        text(point.label, { class: "name", x: spot[0], y: spot[1] + 10, "aria-hidden": "true" });
      }
    }
    svg.append(...marks);
    area.replaceChildren(svg, legend, tip);
    const bars = [x, y].some((metric) => metric.name === "macro_accuracy") ? " Bars: 95% intervals over documents." : "";
    const named = front.map((p) => p.point.label).join(", ");
    const rule = front.length ? `Pareto front, of costs within ${100 * data.same}% the most accurate method where it beats every cheaper one beyond chance (verdicts at 5%): ${named}.` : "";
    caption.textContent = rule + bars
      + (left.length ? ` Not drawn${log ? " (not measured, or 0 on a logarithmic axis)" : " (not measured)"}: ${left.join(", ")}.` : "");
  }

  for (const control of [xChoice, yChoice, logBox]) control.addEventListener("change", draw);
  let drawn = 0;
  new ResizeObserver(() => {
    if (area.clientWidth && area.clientWidth !== drawn) { drawn = area.clientWidth; draw(); }
  }).observe(area);
  return draw;
}

/* One group at a time. */

const groups = [...document.querySelectorAll(".group")];
for (const group of groups) {
  group.querySelectorAll("table.sortable").forEach(makeSortable);
  makeChoosable(group);
  makeFilterable(group, makePlot(group));
}
/* The address names a comparison, or a place in one; without a name it is the first. The browser keeps the history. */
function follow() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const chosen = (target && target.closest(".group")) || groups[0];
  if (!chosen) return;
  for (const group of groups) group.hidden = group !== chosen;
  for (const link of document.querySelectorAll(".comparisons a")) {
    if (link.hash === `#${chosen.id}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (!target || target.classList.contains("group")) return scrollTo(0, 0);
  const fold = target.querySelector("details.fold") || target.closest("details.fold");
  if (fold) fold.open = true;
  target.scrollIntoView();
}
window.addEventListener("hashchange", follow);
window.addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll(".group:not([hidden]) details.fold")) fold.open = true;
});
follow();
