// The answers of a person as JSON and CSV, with a digest by which edited files are found.

const csvColumns = [
  "study", "participant", "list", "consent", "started", "finished", "complete", "screen_width",
  "screen_height", "pixel_ratio", "resumed", "trial", "item", "kind", "answer", "ms", "digest",
];

function answersDigest(answers) {
  const trials = answers.trials.map((t) => [t.trial, t.item, t.kind, t.answer, t.ms]);
  return sha256(JSON.stringify([answers.study, answers.participant, answers.list, trials]));
}

function withDigest(answers) {
  return { ...answers, digest: answersDigest(answers) };
}

function answersJson(answers) {
  return JSON.stringify(withDigest(answers), null, 1) + "\n";
}

function csvField(value) {
  const text = value === null || value === undefined ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
}

function answersCsv(answers) {
  const screen = {
    screen_width: answers.screen.width,
    screen_height: answers.screen.height,
    pixel_ratio: answers.screen.pixel_ratio,
  };
  const person = { ...withDigest(answers), ...screen };
  const rows = answers.trials.map((trial) => {
    const values = { ...person, ...trial };
    return csvColumns.map((name) => csvField(values[name])).join(",");
  });
  return [csvColumns.join(","), ...rows].join("\n") + "\n";
}
