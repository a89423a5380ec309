// Shows what Python draws, whose HTML is escaped there, and plays the pictures of a race one after the other.

function render({ model, el }) {
  el.innerHTML = `<div class="ws-race" role="group" aria-label="Race between models">
    <div></div><div></div><div role="status" aria-live="polite"></div><footer></footer></div>`;
  const root = el.firstElementChild;
  const [head, lanes, said, footer] = root.children;
  let playing = 0;

  const button = (act) => {
    const made = document.createElement("button");
    made.className = "jupyter-button";
    made.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab's keys leave it alone
    made.addEventListener("click", act);
    footer.append(made);
    return made;
  };
  const again = button(() => {
    again.textContent = "Racing …";
    model.send({ command: "race" });
  });
  const replay = button(() => (playing ? end() : play()));

  const draw = (html) => {
    lanes.innerHTML = html;
    for (const text of lanes.querySelectorAll(".wr-text")) text.scrollTop = playing ? text.scrollHeight : 0;
  };
  const play = () => {
    const { frames, play_s } = model.get("view");
    const began = performance.now();
    let shown = -1;
    said.innerHTML = "";
    replay.textContent = "To the end";
    root.dataset.playing = "true";
    const step = (now) => {
      const place = Math.floor((Math.max(0, now - began) / 1000 / play_s) * frames.length);
      if (place >= frames.length) return end();
      playing = requestAnimationFrame(step);
      if (place !== shown) draw(frames[(shown = place)]);
    };
    step(began);
  };
  const end = () => {
    cancelAnimationFrame(playing);
    playing = 0;
    draw(model.get("view").lanes);
    said.innerHTML = model.get("view").said ?? "";
    replay.textContent = "Replay";
    root.dataset.playing = "";
  };
  const update = () => {
    const view = model.get("view");
    head.innerHTML = view.head;
    again.textContent = "Race again";
    replay.hidden = !view.frames?.length;
    end();
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (!replay.hidden && !still) play();
    root.dataset.over = String(Boolean(view.said));
  };
  update();
  model.on("change:view", update);
  return () => {
    model.off("change:view", update);
    cancelAnimationFrame(playing);
  };
}

export default { render };
