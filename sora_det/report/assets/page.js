"use strict";
// Sorting of tables, menus over curves, layers of pictures. Without it, all is shown.

function sortValue(row, column) {
  const cell = row.cells[column];
  return cell.dataset.value === undefined ? null : cell.dataset.value;
}

function sortTable(header) {
  const table = header.closest("table");
  const numeric = header.classList.contains("n");
  const column = header.cellIndex;
  const before = header.getAttribute("aria-sort");
  // Numbers begin with the largest, words with the first of the alphabet.
  const first = numeric ? "descending" : "ascending";
  const other = numeric ? "ascending" : "descending";
  const order = before === first ? other : first;
  const sign = order === "ascending" ? 1 : -1;
  const body = table.tBodies[0];
  const rows = [...body.rows].sort((a, b) => {
    const x = sortValue(a, column), y = sortValue(b, column);
    if (x === null || y === null) return (x === null) - (y === null);  // what is missing is last
    return sign * (numeric ? Number(x) - Number(y) : x.localeCompare(y, "en"));
  });
  body.append(...rows);
  for (const th of table.tHead.rows[0].cells) th.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", order);
}

for (const button of document.querySelectorAll("table.sortable thead button")) {
  button.addEventListener("click", () => sortTable(button.closest("th")));
}

function filter(box) {
  const chosen = {};
  for (const menu of box.querySelectorAll("select[data-filter]")) {
    chosen[menu.dataset.filter] = menu.value;
  }
  for (const panel of box.querySelectorAll("figure[data-class]")) {
    const shown = ["class", "domain"].every(
      (what) => chosen[what] === "-1" || chosen[what] === panel.dataset[what]);
    panel.classList.toggle("filtered-out", !shown);
  }
}

for (const box of document.querySelectorAll(".filtered")) {
  box.addEventListener("change", () => filter(box));
  filter(box);
}

for (const album of document.querySelectorAll(".album")) {
  album.addEventListener("change", (event) => {
    const input = event.target;
    if (input.dataset.layer) album.classList.toggle("no-" + input.dataset.layer, !input.checked);
    if ("runs" in input.dataset) {
      for (const part of album.querySelectorAll("[data-run]")) {
        const off = part.dataset.run !== input.value;
        if (part.localName === "g") part.classList.toggle("off", off);
        else part.hidden = off;
      }
    }
  });
}
