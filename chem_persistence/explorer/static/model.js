"use strict";
// Draw a structure in three dimensions.
(async () => {
  const place = document.getElementById("viewer");
  const answer = await fetch(place.dataset.source);
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const viewer = $3Dmol.createViewer(place, { backgroundColor: dark ? "#161b22" : "#ffffff" });
  viewer.addModel(await answer.text(), place.dataset.format, { keepH: true });
  viewer.setStyle({}, { stick: { radius: 0.13 }, sphere: { scale: 0.25 } });
  viewer.zoomTo();
  viewer.render();
  place.dataset.drawn = String(viewer.getModel().selectedAtoms({}).length);
})();
