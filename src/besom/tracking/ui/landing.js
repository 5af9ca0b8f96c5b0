// Runs in MLflow's page before MLflow does. Of what a browser remembers of the UI, it presets what the user has not
// said, and it makes the view that a link to a study names the browser's own: of a shared view, MLflow forgets the
// columns as soon as one comes back from a run. On a server without this script the link shows the shared view. Of runs
// that are compared, it shows the parameters that differ: a run has its whole config as its parameters.
(() => {
  const presets = {
    "mlflow.workflowType_v1": "machine_learning", // not prompts and agents
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": true, // opening it takes a quarter of the page
    "mlflow.assistant.panelOpen_v1": false,
    "mlflow.settings.telemetry.enabled_v1": false,
    "mlflow.telemetry.info.alert.dismissed_v1": true, // it says that usage is reported; the server has that off
  };
  for (const [name, value] of Object.entries(presets))
    if (localStorage.getItem(name) === null) localStorage.setItem(name, JSON.stringify(value));

  let compared = null; // the page whose switch was set: once, for the user may want to see them all
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
