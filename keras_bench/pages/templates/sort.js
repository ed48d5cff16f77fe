// Sorts a table by the column whose heading is clicked; headings are buttons, so they work from the keyboard too.
const plain = (text) => text.replace(/^[+<] ?/, "").replace(/^−/, "-").replace(/(\d),(?=\d{3})/g, "$1"); // "−1,234" as a number
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const ascending = heading.getAttribute("aria-sort") === "descending" || !heading.hasAttribute("aria-sort") && heading.dataset.first !== "high";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.sort ?? plain(row.cells[column].textContent.trim());
      const rows = [...table.tBodies[0].rows];
      rows.sort((first, second) => {
        const a = key(first), b = key(second), x = parseFloat(a), y = parseFloat(b);
        if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1; // cells without a number come last
        const order = Number.isNaN(x) ? a.localeCompare(b) : x - y;
        return ascending ? order : -order;
      });
      table.tBodies[0].append(...rows);
    });
  });
}
