"""How a report looks and what moves in it: one style, one script, both inside the page."""

from __future__ import annotations

#: Colours of the first configurations: legible on white and on black (a test measures their contrast).
PALETTE = ("#1f77d0", "#c2540a", "#2a8a3e", "#b03a8c", "#7d6608", "#6a5acd", "#0e8088", "#c0392b")

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1c1c1e; --soft: #5f6368; --line: #d9dadd; --mark: #eef4fc; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #16171a; --ink: #e9e9ec; --soft: #a0a4ab; --line: #34363b; --mark: #1d2733; }
}
* { box-sizing: border-box; }
body { background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; margin: 0 auto;
  max-width: 68rem; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
h2.inline { display: inline-block; }
p.about, figcaption, .remarks { color: var(--soft); font-size: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .6rem; text-align: left; white-space: nowrap; }
th.number, td.number { text-align: right; }
th button { all: unset; cursor: pointer; font-weight: 600; }
th button:focus-visible { outline: 2px solid; outline-offset: 2px; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
tr.first td { background: var(--mark); }
figure { margin: 0; } svg { height: auto; max-width: 100%; width: 100%; }
svg text { fill: var(--soft); font-size: 11px; }
svg path { fill: none; vector-effect: non-scaling-stroke; } .grid { stroke: var(--line); }
.axis { stroke: var(--soft); }
.run { opacity: .4; stroke: currentColor; stroke-width: 1.1; } .run:hover { opacity: 1; stroke-width: 3; }
.mean { pointer-events: none; stroke: currentColor; stroke-width: 2.4; }
svg path.band { fill: currentColor; opacity: .16; pointer-events: none; }
svg.focus g[data-group]:not(.chosen) { opacity: .12; }
.other { color: var(--soft); }
ul.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; list-style: none; margin: .4rem 0; padding: 0; }
ul.legend button { all: unset; cursor: pointer; } ul.legend button::before { background: currentColor; content: "";
  display: inline-block; height: .7em; margin-right: .4em; width: 1.2em; }
ul.legend button span { color: var(--ink); }
pre { background: var(--mark); font-size: .82rem; overflow-x: auto; padding: .7rem; white-space: pre-wrap;
  overflow-wrap: anywhere; }
summary { cursor: pointer; } dl { display: grid; gap: .1rem 1rem; grid-template-columns: max-content 1fr; margin: 0;
  font-size: .9rem; } dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
blockquote { border-left: 3px solid var(--line); margin: .6rem 0; padding: 0 0 0 .9rem; white-space: pre-wrap; }
@media (max-width: 40rem) { svg text { font-size: 20px; }
  dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
@media print { body { max-width: none; padding: 0; } .scroll { overflow: visible; }
  h2, figure, tr { break-inside: avoid; }
  details > :not(summary) { display: none; } }
""" + "".join(f".c{i} {{ color: {colour}; }}\n" for i, colour in enumerate(PALETTE))

SCRIPT = """
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = row => { const cell = row.cells[column]; return cell.dataset.value ?? cell.textContent; };
    const order = (a, b) => {
      const [x, y] = [value(a), value(b)], [p, q] = [parseFloat(x), parseFloat(y)];
      if (x === "" || y === "") return (x === "") - (y === "") || 0;
      const by = Number.isNaN(p) || Number.isNaN(q) ? x.localeCompare(y, "en", { numeric: true }) : p - q;
      return down ? -by : by;
    };
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort(order));
  }));
}
for (const button of document.querySelectorAll("ul.legend button")) {
  button.addEventListener("click", () => {
    const svg = button.closest("figure").querySelector("svg");
    const group = svg.querySelector(`g[data-group="${button.dataset.group}"]`);
    group.classList.toggle("chosen");
    button.setAttribute("aria-pressed", group.classList.contains("chosen"));
    svg.classList.toggle("focus", svg.querySelector("g.chosen") !== null);
  });
}
"""
