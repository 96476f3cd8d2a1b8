"use strict";
// The page is whole without this: it finds events among many, and opens what a link leads to.
{
  const controls = document.getElementById("event-controls");
  const find = document.getElementById("event-filter");
  const kind = document.getElementById("event-kind");
  const count = document.getElementById("event-count");
  const rows = [...document.querySelectorAll(".events li[data-kind]")];
  const runs = [...document.querySelectorAll(".events > .run")];
  const texts = rows.map((row) => row.textContent.toLowerCase());

  const filter = () => {
    const wanted = find.value.trim().toLowerCase();
    let shown = 0;
    rows.forEach((row, index) => {
      const fits = (kind.value === "" || row.dataset.kind === kind.value) && texts[index].includes(wanted);
      row.hidden = !fits;
      shown += fits ? 1 : 0;
    });
    const filtered = wanted !== "" || kind.value !== "";
    runs.forEach((run) => {
      run.hidden = run.querySelector("li[data-kind]:not([hidden])") === null;
      run.firstElementChild.open = filtered;
    });
    count.textContent = `${shown} of ${rows.length} shown`;
  };
  const turn = (open) => () => [...runs, ...rows].forEach((row) => {
    if (!row.hidden) row.firstElementChild.open = open;
  });

  find.addEventListener("input", filter);
  kind.addEventListener("change", filter);
  document.getElementById("event-open").addEventListener("click", turn(true));
  document.getElementById("event-close").addEventListener("click", turn(false));
  controls.hidden = false;
}
