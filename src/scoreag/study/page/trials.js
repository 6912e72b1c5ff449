// The trials of a person, in order.  scoreag.study.lists.trial_order computes the same in Python.

function shuffledItems(study, participant, kind, items) {
  const keyed = items.map((item) => [sha256([study.study, participant, kind, item].join("|")), item]);
  keyed.sort((one, other) => (one[0] < other[0] ? -1 : 1));
  return keyed.map((pair) => pair[1]);
}

function trialOrder(study, participant, list) {
  const main = shuffledItems(study, participant, "main", study.lists[list]);
  const checks = shuffledItems(study, participant, "check", study.check_items);
  const half = Math.floor(main.length / 2);
  const repeats = [];
  for (let k = 0; k < study.repeats; k++) {
    repeats.push(main[Math.floor((k * half) / study.repeats)]);
  }
  const [m, c, r] = [main, checks, repeats].map((items) => Math.max(1, items.length));
  const timed = [
    ...main.map((item, i) => [(2 * i + 1) * 2 * c * r, 0, item, "main"]),
    ...checks.map((item, i) => [(2 * i + 1) * 2 * m * r, 1, item, "check"]),
    ...repeats.map((item, i) => [2 * m * c * r + (2 * i + 1) * m * c, 2, item, "repeat"]),
  ];
  timed.sort((one, other) => one[0] - other[0] || one[1] - other[1]);
  return [
    ...study.practice.map((item) => ({ item, kind: "practice" })),
    ...timed.map((entry) => ({ item: entry[2], kind: entry[3] })),
  ];
}

// Who takes part, and with which list, by the address: Prolific's PROLIFIC_PID, or participant.
function readAddress(search, nLists, newCode) {
  const parameters = {};
  for (const part of search.replace(/^\?/, "").split("&").filter(Boolean)) {
    const [name, value] = part.split("=").map(decodeText);
    parameters[name] = value === undefined ? "" : value;
  }
  const prolific = parameters.PROLIFIC_PID;
  const participant = prolific || parameters.participant || newCode();
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(participant)) {
    return { error: "The code of the participant in the link has letters that no code has." };
  }
  // without a list in the link, a person's code decides
  const list =
    parameters.list === undefined
      ? parseInt(sha256(participant).slice(0, 8), 16) % nLists
      : /^\d{1,6}$/.test(parameters.list)
        ? Number(parameters.list)
        : nLists;
  if (list >= nLists) {
    return { error: `The list in the link is not one of 0 to ${nLists - 1}.` };
  }
  return { participant, list, prolific: Boolean(prolific), send: parameters.send === "1" };
}

function decodeText(text) {
  try {
    return decodeURIComponent(text.replace(/\+/g, " "));
  } catch {
    return text;
  }
}

// The answers that a trial has, each with its keys.
function choicesOf(study) {
  const unsure = (label) => ({ answer: "unsure", label, keys: ["u"] });
  if (study.design === "name") {
    const named = study.classes.map((name, i) => ({
      answer: i,
      label: className(study, i),
      keys: [String((i + 1) % 10)],
    }));
    return [...named, unsure("cannot tell")];
  }
  if (study.design === "choose") {
    return [
      { answer: "left", label: "the left one", keys: ["1", "ArrowLeft"] },
      { answer: "right", label: "the right one", keys: ["2", "ArrowRight"] },
      unsure("not sure"),
    ];
  }
  return [
    { answer: "real", label: "a photograph", keys: ["1"] },
    { answer: "fake", label: "made or changed", keys: ["2"] },
    unsure("not sure"),
  ];
}

function className(study, label) {
  return study.classes[label].replace(/_/g, " ");
}

function questionOf(study, item) {
  const label = study.items[item].label;
  return label === undefined ? study.question : study.question.replace("{}", className(study, label));
}

// The images of a trial from left to right.
function imagesOf(study, item) {
  const { image, pair, side } = study.items[item];
  if (pair === undefined) return [image];
  const other = study.items[pair].image;
  return side === "left" ? [image, other] : [other, image];
}

function feedbackOf(study, item, answer) {
  const right = study.items[item].right;
  const word = choicesOf(study).find((choice) => choice.answer === right).label;
  if (answer === right) return `Yes: ${word}.`;
  return answer === "unsure" ? `It is: ${word}.` : `No, it is: ${word}.`;
}
