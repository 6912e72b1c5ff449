// The study from consent to download.  Each answer is stored, so that a reload resumes.

const study = JSON.parse(document.getElementById("study").textContent);
const prefix = `scoreag-study ${study.study.slice(0, 16)}`;
const gapMilliseconds = 250; // without an image, between two trials
const keysOffKey = `${prefix} keys off`;
const doneHash = "#done"; // in the address of someone whose answers left this browser
let address, order, state;
let hasOwnCode = false;
let onKey = () => {};

document.addEventListener("keydown", (event) => {
  const modified = event.ctrlKey || event.altKey || event.metaKey;
  const off = event.key.length === 1 && storage.get(keysOffKey) === true;
  if (!event.repeat && !modified && !off) onKey(event);
});

function begin() {
  address = readAddress(window.location.search, study.lists.length, ownCode);
  if (address.error) {
    showScreen("text", "This link does not work", element("p", {}, address.error));
    return;
  }
  state = storage.get(storageKey());
  if (!state || state.study !== study.study) {
    if (window.location.hash === doneHash) showHandedIn();
    else showConsent();
    return;
  }
  order = trialOrder(study, state.participant, state.list);
  if (state.phase === "done") showDone();
  else showWelcomeBack();
}

function storageKey() {
  return `${prefix} ${address.participant}`;
}

// A code for someone whose link has none; it is kept for a reload, but not before consent.
function ownCode() {
  hasOwnCode = true;
  const known = storage.get(prefix);
  if (typeof known === "string") return known;
  const bytes = window.crypto.getRandomValues(new Uint8Array(6));
  return "p-" + Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
}

// Remove all that the browser keeps of this person; `state` stays until the page is closed.
function forget() {
  for (const key of [storageKey(), prefix, keysOffKey]) storage.remove(key);
}

function save() {
  storage.set(storageKey(), state);
}

function showConsent() {
  onKey = () => {};
  showScreen(
    "text",
    study.title,
    textOf("consent"),
    element("p", {}, `It takes about ${study.minutes} minutes.`),
    element(
      "div",
      { class: "actions" },
      button("I agree and take part", agree, { class: "primary" }),
      button("I do not take part", showDeclined),
    ),
  );
}

function agree() {
  const { participant, list } = address;
  state = {
    format: 1, study: study.study, participant, list, consent: true,
    started: new Date().toISOString(), finished: null, complete: false,
    screen: {
      width: window.screen.width, height: window.screen.height,
      pixel_ratio: window.devicePixelRatio,
    },
    resumed: 0, trials: [], phase: "trials",
  };
  order = trialOrder(study, participant, list);
  if (hasOwnCode) storage.set(prefix, participant);
  save();
  showInstructions();
}

function showInstructions() {
  const choices = choicesOf(study);
  const keys = choices.map((choice) =>
    element("li", {}, element("kbd", {}, keyName(choice.keys[0])), ` ${choice.label}`),
  );
  const hints = {
    name: "You see one picture at a time. Say what it shows, even if it is blurred or odd.",
    choose: "You see two pictures at a time. Say which one shows the named thing more clearly.",
    real: "You see one picture at a time. Some are photographs as they were taken. Others were made or changed by a computer, and some of those are plainly broken.",
  };
  showScreen(
    "text",
    "How it works",
    element("p", {}, hints[study.design]),
    element("p", {}, "Press a button; with a keyboard, its key:"),
    element("ul", { class: "keys" }, ...keys),
    element("p", {}, "The pictures are small, and shown larger. Answer as you see it; your first impression is fine. If you cannot decide, say so."),
    element("p", {}, `The first ${study.practice.length} are for practice, and you are told the answer. You can pause at any time, with the button or the key P.`),
    element(
      "div",
      { class: "actions" },
      button("Begin with practice", () => showTrial(""), { class: "primary" }),
      keysSwitch(),
    ),
  );
}

// Letters and digits as keys can be switched off: they get in the way of speech input.
function keysSwitch() {
  const label = () =>
    storage.get(keysOffKey) === true ? "Switch the keys on" : "Switch the keys off";
  const toggle = (event) => {
    storage.set(keysOffKey, storage.get(keysOffKey) !== true);
    event.target.textContent = label();
  };
  return button(label(), toggle);
}

function keyName(key) {
  return key.length > 1 ? key.replace("Arrow", "") : key.toUpperCase();
}

function showWelcomeBack() {
  onKey = () => {};
  state.resumed += 1;
  save();
  showScreen(
    "text",
    "Welcome back",
    element("p", {}, `You have answered ${state.trials.length} of ${order.length} pictures.`),
    element(
      "div",
      { class: "actions" },
      button("Continue", proceed, { class: "primary" }),
      button("Withdraw", () => askWithdrawal(showWelcomeBackAgain)),
    ),
  );
}

function showWelcomeBackAgain() {
  state.resumed -= 1; // shown again without a reload
  showWelcomeBack();
}

function proceed() {
  if (state.phase === "debrief" || state.trials.length === order.length) showDebrief();
  else if (state.trials.length) showTrial("");
  else showInstructions();
}

function progressText(number) {
  return `Picture ${number + 1} of ${order.length}`;
}

function topBar(number) {
  const practice = order[number].kind === "practice" ? ", practice" : "";
  return element(
    "div",
    { class: "top" },
    element("label", { for: "progress" }, progressText(number) + practice),
    element("progress", { id: "progress", max: order.length, value: number }),
    button("Pause", showPause, { class: "quiet", "aria-keyshortcuts": "p" }),
  );
}

// `note` is a hint, shown below the answers.
async function showTrial(note) {
  onKey = () => {};
  const number = state.trials.length;
  const { item } = order[number];
  const stage = element("div", { class: "stage", role: "img", "aria-label": stageLabel() });
  const bottom = element("div", { class: "bottom" });
  showScreen(
    "trial",
    questionOf(study, item),
    topBar(number),
    stage,
    bottom,
  );
  announce(`${note} ${progressText(number)}.`);
  const draw = Promise.all(imagesOf(study, item).map((i) => decodeImage(study.images[i])));
  const [images] = await Promise.all([draw, delay(gapMilliseconds)]);
  if (!stage.isConnected) return; // paused in between
  stage.replaceChildren(...images.map((image) => drawEnlarged(image, study.enlargement)));
  await nextFrame();
  if (stage.isConnected) takeAnswer(bottom, item, note);
}

function stageLabel() {
  return study.design === "choose" ? "Two pictures, side by side" : "The picture";
}

function delay(milliseconds) {
  return new Promise((done) => setTimeout(done, milliseconds));
}

function nextFrame() {
  // the first callback comes before the image is painted, the second one after it
  return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())));
}

function takeAnswer(bottom, item, note) {
  const shownAt = performance.now();
  const answer = (value) => recordAnswer(item, value, Math.round(performance.now() - shownAt));
  const choices = choicesOf(study);
  const buttons = choices.map((choice) =>
    element(
      "button",
      {
        type: "button",
        class: choice.answer === "unsure" ? "unsure" : null,
        "aria-keyshortcuts": choice.keys.join(" "),
        onclick: () => answer(choice.answer),
      },
      element("kbd", { "aria-hidden": "true" }, keyName(choice.keys[0])),
      element("span", {}, choice.label),
    ),
  );
  const attributes = { class: `choices ${study.design}`, role: "group", "aria-label": "Answers" };
  const group = element("div", attributes, ...buttons);
  group.style.setProperty("--rows", Math.ceil((choices.length - 1) / 2));
  bottom.replaceChildren(group, element("p", { class: "note" }, note));
  onKey = (event) => {
    const choice = choices.find((one) => one.keys.includes(event.key) || one.keys.includes(event.key.toLowerCase()));
    if (choice) {
      event.preventDefault();
      answer(choice.answer);
    } else if (event.key.toLowerCase() === "p") showPause();
  };
}

function recordAnswer(item, answer, ms) {
  const trial = state.trials.length;
  const { kind } = order[trial];
  state.trials.push({ trial, item, kind, answer, ms });
  if (state.trials.length === order.length) {
    state.finished = new Date().toISOString();
    state.complete = true;
    state.phase = "debrief";
  }
  save();
  const note = ms < study.minimal_ms ? "That was very fast. Please look at each picture." : "";
  if (kind === "practice") showFeedback(item, answer, order[trial + 1].kind !== "practice");
  else if (state.complete) showDebrief();
  else showTrial(note);
}

function showFeedback(item, answer, isLast) {
  onKey = () => {};
  const text = feedbackOf(study, item, answer);
  const stage = document.querySelector(".stage");
  const next = isLast ? "Practice is over: begin" : "Next";
  showScreen(
    "trial",
    text,
    topBar(state.trials.length - 1),
    stage,
    isLast ? element("p", {}, "From now on you are not told the answer.") : null,
    element("div", { class: "actions" }, button(next, () => showTrial(""), { class: "primary" })),
  );
  announce(text);
  onKey = (event) => {
    const onButton = event.target instanceof HTMLButtonElement;
    if (event.key === "Enter" && !onButton) showTrial("");
    else if (event.key.toLowerCase() === "p") showPause();
  };
}

function showPause() {
  onKey = () => {};
  showScreen(
    "text",
    "Paused",
    element("p", {}, `You have answered ${state.trials.length} of ${order.length} pictures. You may close this page: its address, opened again on this device, brings you back here.`),
    element(
      "div",
      { class: "actions" },
      button("Continue", proceed, { class: "primary" }),
      button("Stop here, and hand in what I answered", showDebrief),
      keysSwitch(),
      button("Withdraw", () => askWithdrawal(showPause)),
    ),
  );
}

function askWithdrawal(back) {
  showScreen(
    "text",
    "Withdraw?",
    element("p", {}, "Your answers are deleted from this device, and none are sent."),
    element(
      "div",
      { class: "actions" },
      button("Yes, delete my answers", withdraw),
      button("Back", back, { class: "primary" }),
    ),
  );
}

function withdraw() {
  forget();
  state = null;
  showWithdrawn();
}

function showWithdrawn() {
  onKey = () => {};
  showScreen("text", "You have withdrawn", textOf("withdrawal"));
}

function showDeclined() {
  const stored = address.send
    ? "No answers were stored; only the code of your link was, when the page was opened."
    : "Nothing about you was stored.";
  const text = `${stored} You may close this page.`;
  const actions = element("div", { class: "actions" }, button("Back", showConsent));
  showScreen("text", "You do not take part", element("p", {}, text), actions);
}

function showDebrief() {
  onKey = () => {};
  state.phase = "debrief";
  save();
  const back = state.complete ? null : button("Back to the pictures", backToTrials);
  showScreen(
    "text",
    "About this study",
    textOf("debrief"),
    element("p", {}, "Your answers count when you hand them in."),
    element(
      "div",
      { class: "actions" },
      button("Hand in my answers", handIn, { class: "primary" }),
      back,
      button("Withdraw", () => askWithdrawal(showDebrief)),
    ),
  );
}

function backToTrials() {
  state.phase = "trials";
  save();
  proceed();
}

function handIn() {
  state.phase = "done";
  save();
  showDone();
}

function answers() {
  const { phase, ...rest } = state;
  return rest;
}

function showDone() {
  onKey = () => {};
  const name = `answers-${state.participant}`;
  const sent = element("p", { class: "sent", role: "status" });
  const sends = address.send && window.location.protocol.startsWith("http");
  const note = element("p", { class: "note", role: "status" });
  let awaitsReply = sends;
  const give = (kind, type, text) => {
    download(`${name}.${kind}`, type, text);
    if (awaitsReply) return; // the reply of the server decides
    forgetHandedIn(actions);
    note.textContent = "This browser keeps your answers only until you close the page: make sure that you have the file.";
  };
  const json = () => give("json", "application/json", answersJson(answers()));
  const csv = () => give("csv", "text/csv", answersCsv(answers()));
  const actions = element(
    "div",
    { class: "actions" },
    button("Download as JSON", json, { class: sends ? null : "primary" }),
    button("Download as CSV", csv),
    address.prolific ? prolificLink() : null,
  );
  showScreen(
    "text",
    "Done. Thank you!",
    sends ? sent : element("p", {}, "Download your answers, and send the file to those who run the study."),
    note,
    completionCode(),
    actions,
  );
  if (!sends) return;
  send(sent).then((received) => {
    awaitsReply = false;
    if (received) forgetHandedIn(actions);
  });
}

// The last screen again, after a reload: the answers are no longer in this browser.
function showHandedIn() {
  onKey = () => {};
  const actions = element("div", { class: "actions" }, address.prolific ? prolificLink() : null);
  showScreen(
    "text",
    "Done. Thank you!",
    element("p", {}, "Your answers were handed in or downloaded, and deleted from this browser."),
    completionCode(),
    actions,
  );
  offerAnother(actions);
}

function completionCode() {
  const code = element("strong", { class: "code" }, study.completion_code);
  return element("p", {}, "Your completion code is ", code, ".");
}

// Not before the answers left the browser: nobody's are lost by it.
function offerAnother(actions) {
  if (hasOwnCode) actions.append(button("Someone else takes part on this device", startAnew));
}

function forgetHandedIn(actions) {
  if (window.location.hash !== doneHash) offerAnother(actions);
  forget();
  window.location.replace(doneHash); // for a reload; nothing is loaded
}

function prolificLink() {
  const href = `https://app.prolific.com/submissions/complete?cc=${encodeURIComponent(study.completion_code)}`;
  return element("a", { href, rel: "noreferrer", class: "button" }, "Back to Prolific");
}

function startAnew() {
  window.location.hash = "";
  window.location.reload();
}

async function send(sent) {
  sent.textContent = "Your answers are being sent.";
  try {
    const headers = { "Content-Type": "application/json" };
    const reply = await fetch("answers", { method: "POST", headers, body: answersJson(answers()) });
    const text = (await reply.text()).slice(0, 200);
    sent.textContent = reply.ok ? "Your answers were received." : `Your answers were not received: ${text}`;
    return reply.ok;
  } catch {
    sent.textContent = "Your answers could not be sent. Download them, and send the file to those who run the study.";
    return false;
  }
}

begin();
