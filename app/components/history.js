// One entry of the browser's history for each page that was visited, as it was left. Streamlit adds one whenever a page writes its state into
// its address, several times a run, so that going back stayed on the page. Runs before Streamlit's own scripts (app/board.py).
(() => {
  const push = history.pushState.bind(history);
  const replace = history.replaceState.bind(history);
  // The address that was written over a moment ago. The state of the next page may come before its name does: then it was not meant for
  // the page that is left.
  let left = null;
  let timer = 0;
  const settle = () => { left = null; };
  history.pushState = (state, title, address) => {
    clearTimeout(timer);
    if (new URL(address || "", location.href).pathname === location.pathname) {
      left = left || location.href;
      timer = setTimeout(settle, 500);
      replace(state, title, address);
      return;
    }
    if (left) replace(history.state, "", left);
    settle();
    push(state, title, address);
  };
  addEventListener("popstate", settle, true);
})();
