// In Omniboard's page: on the first visit, show the columns of this field beside the number of a run, instead of
// Sacred's own and of every setting. The user's own choice of columns, made later, stays.
(function () {
  const STATE = "default|RunsTable|1";
  const DONE = "columns-of-debias";
  const FIRST = ["_id", "method", "data set", "skew", "seed", "unbiased %", "conflicting %", "status", "command",
    "start_time", "duration", "tags", "notes"];
  if (localStorage.getItem(DONE)) return;
  const timer = setInterval(function () {
    const state = JSON.parse(localStorage.getItem(STATE) || "null");
    if (!state || !state.columnOrder || !state.columnOrder.includes("unbiased %")) return;
    clearInterval(timer);
    const shown = FIRST.filter((name) => state.columnOrder.includes(name));
    const options = new Map(state.dropdownOptions.map((option) => [option.value, { ...option, selected: false }]));
    state.columnOrder = shown;
    shown.forEach((name) => Object.assign(options.get(name) || {}, { selected: true }));
    state.dropdownOptions = [...shown.filter((name) => options.has(name)).map((name) => options.get(name)),
      ...[...options.values()].filter((option) => !option.selected)];
    shown.forEach((name) => { state.columnWidths[name] = { _id: 90, tags: 160, notes: 160 }[name] || 120; });
    localStorage.setItem(STATE, JSON.stringify(state));
    localStorage.setItem(DONE, "1");
    // The page writes its own state once more while it is left.
    Storage.prototype.setItem = function () {};
    location.reload();
  }, 200);
})();
