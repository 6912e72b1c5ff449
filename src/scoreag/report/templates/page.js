"use strict";
// Sorts and filters tables, enlarges images, copies text. Without it the page shows everything, too.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, properties = {}, ...children) => {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  };
  const words = new Intl.Collator(undefined, { numeric: true });

  // Tables: a click on a heading sorts, numbers by the value of the cell; a second one reverses.
  const keyOf = (row, column) => row.cells[column].dataset.sort || "";
  const compare = (column, sign) => (a, b) => {
    const [x, y] = [keyOf(a, column), keyOf(b, column)];
    if (x !== "" && y !== "") return sign * (Number(x) - Number(y));
    if (x !== "" || y !== "") return x !== "" ? -1 : 1;
    return sign * words.compare(a.cells[column].textContent, b.cells[column].textContent);
  };
  const sortTable = (table, column, sign) => {
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort(compare(column, sign)));
    [...table.tHead.rows[0].cells].forEach((cell, i) =>
      cell.setAttribute("aria-sort", i === column ? (sign > 0 ? "ascending" : "descending") : "none"));
  };
  const makeSortable = (table) =>
    [...table.tHead.rows[0].cells].map((cell, column) => {
      const label = cell.textContent.trim() || "name";
      const button = make("button", { type: "button", className: "sort" }, label);
      button.addEventListener("click", () =>
        sortTable(table, column, cell.getAttribute("aria-sort") === "ascending" ? -1 : 1));
      cell.replaceChildren(button);
      cell.setAttribute("aria-sort", "none");
      return label;
    });

  // A field that hides what does not hold all of its words.
  const makeFilter = (kind, items) => {
    const count = make("output", {}, `${items.length} ${kind}`);
    const field = make("input", { type: "search" });
    field.addEventListener("input", () => {
      const wanted = field.value.toLowerCase().split(/\s+/);
      for (const item of items) {
        const text = item.textContent.toLowerCase();
        item.hidden = !wanted.every((word) => text.includes(word));
      }
      const shown = items.filter((item) => !item.hidden).length;
      count.textContent = shown < items.length ? `${shown} of ${items.length} ${kind}` : `${shown} ${kind}`;
    });
    return [make("label", {}, `Filter ${kind} `, field), count];
  };
  for (const table of all("table.data")) {
    const rows = [...table.tBodies[0].rows];
    if (rows.length < 3) continue;
    const labels = makeSortable(table);
    const choice = make("select", {}, make("option", { value: "" }, "as given"));
    labels.forEach((label, i) => {
      choice.append(make("option", { value: `${i},1` }, `${label}, ascending`));
      choice.append(make("option", { value: `${i},-1` }, `${label}, descending`));
    });
    choice.addEventListener("change", () => {
      if (choice.value) sortTable(table, ...choice.value.split(",").map(Number));
      else table.tBodies[0].append(...rows);
    });
    const sorting = make("label", { className: "narrow" }, "Sort by ", choice);
    const filter = rows.length < 6 ? [] : makeFilter("rows", rows);
    table.parentNode.before(make("div", { className: "tools" }, ...filter, sorting));
  }
  for (const gallery of all(".gallery")) {
    const strips = all(".strip", gallery);
    if (strips.length > 12) {
      gallery.before(make("div", { className: "tools" }, ...makeFilter("images", strips)));
    }
  }

  // Images: a strip is enlarged in a dialog; arrow keys show its neighbors, Escape closes.
  const viewer = document.getElementById("viewer");
  const strips = all(".gallery .strip");
  let current = 0;
  const show = (index) => {
    const shown = strips.filter((strip) => !strip.hidden);
    if (!shown.length) return;
    current = (index + shown.length) % shown.length;
    const strip = shown[current];
    const title = strip.querySelector(".title").textContent;
    viewer.querySelector("strong").textContent = `${title} (${current + 1} of ${shown.length})`;
    viewer.querySelector(".view").replaceChildren(...all(".cell", strip).map((cell) => cell.cloneNode(true)));
    if (!viewer.open) viewer.showModal();
  };
  for (const strip of strips) {
    strip.addEventListener("click", (event) => {
      if (!event.target.closest("a.enlarge, img")) return;
      event.preventDefault();
      strip.querySelector("a.enlarge").focus();
      show(strips.filter((one) => !one.hidden).indexOf(strip));
    });
  }
  viewer.addEventListener("click", (event) => {
    const step = event.target.dataset.step;
    if (event.target === viewer || step === "0") viewer.close();
    else if (step) show(current + Number(step));
  });
  viewer.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) show(current + step);
  });

  // Code to paste.
  for (const block of all("pre")) {
    const button = make("button", { type: "button", className: "copy" }, "Copy");
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(block.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(block);
        button.textContent = "Selected";
      }
    });
    block.after(button);
  }

  // A link to a section opens what is folded in it.
  const unfold = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const folded = target && target.querySelector(":scope > details:only-of-type");
    if (folded) folded.open = true;
  };
  addEventListener("hashchange", unfold);
  unfold();
})();
