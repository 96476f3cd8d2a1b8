"use strict";
// Tell the parts of the page that follow the log when it has grown.
if (document.querySelector("[data-live]")) {
  const log = new EventSource("/live");
  log.addEventListener("grown", () => document.body.dispatchEvent(new Event("grown")));
  addEventListener("pagehide", () => log.close());
}
