"use strict";
for (const box of document.querySelectorAll(".ghn-table:not([data-live])")) {
  box.dataset.live = "";
  const titles = [...box.querySelectorAll("th")], body = box.querySelector("tbody"), rows = [...body.rows];
  const value = (row, k) => row.cells[k].dataset.value ?? row.cells[k].textContent;
  titles.forEach((title, k) => {
    title.addEventListener("click", () => {
      const down = title.getAttribute("aria-sort") === "ascending";
      titles.forEach((other) => other.removeAttribute("aria-sort"));
      title.setAttribute("aria-sort", down ? "descending" : "ascending");
      const order = (a, b) => value(a, k).localeCompare(value(b, k), "en", {numeric: true});
      const numbers = rows.every((row) => "value" in row.cells[k].dataset);
      rows.sort(numbers ? (a, b) => value(a, k) - value(b, k) : order);
      if (down) rows.reverse();
      body.append(...rows);
    });
  });
  const field = document.createElement("input");
  field.type = "search";
  field.placeholder = "filter";
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    rows.forEach((row) => { row.hidden = !row.textContent.toLowerCase().includes(wanted); });
  });
  if (rows.length > 10) box.prepend(field);
}
