"use strict";
// The pointer over a mark shows the trial's tooltip, and highlights the trial everywhere.
const told = JSON.parse(document.getElementById("trials").textContent);
const tip = document.getElementById("tip");
let lit = null;
function light(trial) {
  if (trial === lit) return;
  for (const [name, on] of [[lit, false], [trial, true]]) {
    if (name === null) continue;
    for (const mark of document.querySelectorAll(`[data-t="${name}"]`)) mark.classList.toggle("on", on);
  }
  lit = trial;
}
document.addEventListener("pointermove", event => {
  const mark = event.target.closest("[data-t]");
  light(mark ? mark.dataset.t : null);
  tip.hidden = !mark || mark.tagName === "TR" || !(mark.dataset.t in told);
  if (tip.hidden) return;
  tip.textContent = told[mark.dataset.t];
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 8))}px`;
  tip.style.top = `${event.clientY + 14 + height > innerHeight ? event.clientY - height - 10 : event.clientY + 14}px`;
});
// A click on a column's heading sorts by it, a second click in reverse.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.querySelectorAll("th")];
  headings.forEach((heading, column) => heading.addEventListener("click", () => {
    const up = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of headings) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = row => row.cells[column].dataset.s ?? row.cells[column].textContent;
    const order = (one, other) => isNaN(one) || isNaN(other) ? one.localeCompare(other) : one - other;
    const body = table.tBodies[0];
    const rows = [...body.rows].sort((one, other) => (up ? 1 : -1) * order(key(one), key(other)));
    body.append(...rows);
  }));
}
// Dragging along an axis of parallel coordinates selects the lines that cross the range.
for (const svg of [...document.querySelectorAll("svg")].filter(svg => svg.querySelector(".brush"))) {
  const lines = [...svg.querySelectorAll(".pl")].map(line => [line, line.dataset.y.split(",")]);
  const ranges = new Map();
  const choose = () => lines.forEach(([line, ys]) => line.classList.toggle("out",
    [...ranges].some(([axis, [low, high]]) => ys[axis] === "" || +ys[axis] < low || +ys[axis] > high)));
  [...svg.querySelectorAll(".brush")].forEach((brush, axis) => {
    const chosen = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    chosen.setAttribute("class", "chosen");
    chosen.setAttribute("x", +brush.getAttribute("x") + 4);
    chosen.setAttribute("width", 10);
    brush.after(chosen);
    const height = event => new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse()).y;
    let from = null;
    const drag = event => {
      if (from === null) return;
      const range = [Math.min(from, height(event)), Math.max(from, height(event))];
      range[1] - range[0] < 3 ? ranges.delete(axis) : ranges.set(axis, range);
      chosen.setAttribute("y", range[0]);
      chosen.setAttribute("height", ranges.has(axis) ? range[1] - range[0] : 0);
      choose();
    };
    brush.addEventListener("pointerdown", event => { brush.setPointerCapture(event.pointerId); from = height(event); drag(event); });
    brush.addEventListener("pointermove", drag);
    brush.addEventListener("pointerup", () => { from = null; });
  });
}
for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    const code = button.previousElementSibling;
    getSelection().selectAllChildren(code);
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "copied";
  });
}
