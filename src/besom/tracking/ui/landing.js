// Runs in MLflow's page before MLflow's own scripts. It presets the UI settings that the user has not set, and copies the
// shared view of a study's link into the browser's storage, because MLflow forgets the columns of a shared view when the
// user comes back from a run. On a server without this script, the link shows the shared view. On the page that compares
// runs, it shows only parameters that differ: a run's parameters are its whole config.
(() => {
  const presets = {
    "mlflow.workflowType_v1": "machine_learning", // not prompts and agents
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": true, // opening it takes a quarter of the page
    "mlflow.assistant.panelOpen_v1": false,
    "mlflow.settings.telemetry.enabled_v1": false,
    "mlflow.telemetry.info.alert.dismissed_v1": true, // it announces usage reports, which are disabled on the server
  };
  for (const [name, value] of Object.entries(presets))
    if (localStorage.getItem(name) === null) localStorage.setItem(name, JSON.stringify(value));

  let compared = null; // the page whose switch was set, once: the user may set it back
  const differing = () => document.querySelector('[role=switch][aria-label="Parameters - Show diff only"]');
  new MutationObserver(() => {
    if (!location.hash.startsWith("#/compare-runs")) compared = null;
    else if (compared !== location.hash && differing() !== null) {
      compared = location.hash;
      if (differing().ariaChecked === "false") differing().click();
    }
  }).observe(document, { childList: true, subtree: true });

  const [path, query] = location.hash.split("?"); // #/experiments/1/runs?viewStateShareKey=besom-digits
  const parameters = new URLSearchParams(query);
  const view = parameters.get("viewStateShareKey") ?? "";
  if (!view.startsWith("besom-") || parameters.has("searchFilter")) return; // MLflow adds that when it has opened a view
  const experiment = path.split("/")[2];
  const request = new XMLHttpRequest();
  request.open("GET", `ajax-api/2.0/mlflow/experiments/get?experiment_id=${experiment}`, false); // MLflow must wait
  request.send();
  const tags = JSON.parse(request.responseText).experiment?.tags ?? [];
  const tag = tags.find(({ key }) => key === `mlflow.sharedViewState.${view}`);
  if (tag === undefined) return;
  localStorage.setItem(
    `MLflowLocalStorage-1.1-ExperimentPage-["${experiment}"]-ReactComponentState`,
    JSON.parse(tag.value).state,
  );
  parameters.delete("viewStateShareKey");
  history.replaceState(null, "", `${path}?${parameters}`);
})();
