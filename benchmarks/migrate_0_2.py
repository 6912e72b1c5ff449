"""Write cards and plans of version 0.1 in the words of 0.2: ``migrate_0_2.py FILE.toml ...``.

Each file is changed in place; comments and the order of entries stay.  What is already in the new
words is left as it is, so a second run changes nothing.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

Words = Mapping[str, str]

NETWORKS = {"plain_cnn": "small_cnn", "resnet": "cifar_resnet", "whitened_cnn": "airbench_cnn"}
COMPONENTS = {"churn": "edm_stochastic", "dpmpp": "dpmpp_2m", "spatial": "stadv",
              "ensemble": "auto_ensemble", "denoise_once": "one_step_denoising"}  # fmt: skip
VALUES = {  # of a key in its new word
    "network": NETWORKS, "attack": COMPONENTS, "purifier": COMPONENTS, "sampler": COMPONENTS,
    "jacobian": {"straight": "identity", "symmetric": "finite_difference"},
    "norm": {"linf": "Linf", "l2": "L2"}, "target": {"second": "runner_up"},
    "backward": {"blind": "none"},
}  # fmt: skip
PREFIXES = {"masked:": "obfuscated:", "unmasked:": "bpda:", "guarded:": "with-detector:",
            "folder:": "image-folder:", "arrays:": "npz:", "picture:": "single-image:",
            "run:": "run-dir:"}  # fmt: skip
SAMPLING = {
    "strength": "attack_scale", "precision": "similarity", "start": "sigma_start",
    "gradient": "jacobian", "estimate": "x0_estimate", "interval": "attack_interval",
    "variance": "likelihood_variance", "guidance": "attack_loss",
    "normalized": "normalize_gradient", "stop": "stop_margin", "retries": "max_restarts",
}  # fmt: skip
SAMPLER_OPTIONS = {"amount": "s_churn", "low": "s_tmin", "high": "s_tmax", "inflate": "s_noise",
                   "stochastic": "sde"}  # fmt: skip
NETWORK_OPTIONS = {"taps": "resample_filter", "least": "min_channels_per_group"}
TRAINING = {
    "rising": "warmup_images", "rate": "lr", "others_rate": "adam_lr", "decay": "weight_decay",
    "dropped": "label_dropout", "mirror": "hflip", "ends": "embed_layers", "noise": "ln_sigma",
    "bias_rate": "bias_lr_factor", "smoothing": "label_smoothing", "sides": "crop_schedule",
    "shift": "random_shift", "adversary": "adversarial", "radius": "eps", "stride": "step_size",
    "steps": "attack_steps", "extra_share": "extra_fraction", "finer": "grow_resolution",
    "ema": "ema_width",
    "plan": "schedule",
}  # fmt: skip
SCHEDULE = {
    "images": "total_images", "batch": "batch_size", "widths": "ema_widths",
    "ema": "ema_rampup_ratio", "warmup": "warmup_fraction", "decay": "decay_fraction",
    "clip": "max_grad_norm", "precision": "dtype", "snapshots": "n_snapshots",
}  # fmt: skip
PURIFIER = SAMPLING | {
    "victims": "classifiers", "attacked": "attacker_options", "fixed": "shared_draw",
    "sets": "datasets", "vote": "aggregate",
}  # fmt: skip
ATTACK = SAMPLING | {
    "victims": "classifiers", "strangers": "ood_data", "with_lpips": "requires_lpips",
    "answers": "eval_draws", "sets": "datasets", "epsilon": "eps", "bound": "eps",
    "draws": "eot_samples", "stop": "early_stop_draws", "weights": "eot_weighting",
    "targets": "n_target_classes", "queries": "n_queries", "share": "p_init",
    "keep": "return_iterate", "reach": "max_displacement", "wrong": "target",
    "rounds": "cg_iterations", "turns": "outer_steps",
}  # fmt: skip
CARD = {  # what the keys of a table are called, by its path in old words; * is any name
    "": {"licence": "license", "levels": "schedule_kwargs", "shards": "weight_files",
         "figures": "metrics", "recipe": "training_config"},
    "levels": {"pace": "time_scale", "first": "beta_start", "last": "beta_end"},
    "options": NETWORK_OPTIONS,
    "defaults.*": SAMPLING,
    "defaults.*.sampler_options": SAMPLER_OPTIONS,
    "recipe": TRAINING,
    "recipe.plan": SCHEDULE,
}  # fmt: skip
PLAN = {
    "": {"about": "description", "answers": "eval_draws", "micro_batch": "batch_size",
         "features": "feature_extractor", "sets": "datasets"},
    "sets.*": {"victims": "classifiers", "judge": "reference_classifier",
               "bring": "missing_hint", "random": "stochastic"},
    "purifiers.*": PURIFIER,
    "purifiers.*.attacked": PURIFIER,
    "purifiers.*.sampler_options": SAMPLER_OPTIONS,
    "purifiers.*.attacked.sampler_options": SAMPLER_OPTIONS,
    "attacks.*": ATTACK,
    "attacks.*.sampler_options": SAMPLER_OPTIONS,
}  # fmt: skip


def migrate(text: str) -> str:
    """The text of a card or of a plan, in the words of 0.2."""
    is_card = re.search(r"^(kind|network)\s*=", text, re.MULTILINE) is not None
    tables = CARD if is_card else PLAN
    path, lines = "", []
    for line in text.splitlines(keepends=True):
        if header := re.match(r"\[([^\]]+)\]", line):
            path = header.group(1)
            line = f"[{_rename_path(path, tables)}]{line[header.end() :]}"
        elif entry := re.match(r"([A-Za-z0-9_]+)(\s*=\s*)", line):
            key = _words(path, tables).get(entry.group(1), entry.group(1))
            inner = _words(f"{path}.{entry.group(1)}".strip("."), tables)
            value = _rename_inline(line[entry.end() :], inner)
            line = key + entry.group(2) + _rename_value(key, value, is_card)
        lines.append(line)
    return "".join(lines)


def _words(path: str, tables: Mapping[str, Words]) -> Words:
    """What the keys of a table are called now."""
    for pattern, words in tables.items():
        if re.fullmatch(pattern.replace(".", r"\.").replace("*", r"""("[^"]*"|[^."]+)"""), path):
            return words
    return {}


def _rename_path(path: str, tables: Mapping[str, Words]) -> str:
    parts = re.findall(r'"[^"]*"|[^."]+', path)
    return ".".join(
        _words(".".join(parts[:i]), tables).get(part, part) for i, part in enumerate(parts)
    )


def _rename_inline(value: str, words: Words) -> str:
    """The keys of an inline table, and the values of those that have words of their own."""
    if not value.startswith("{"):
        return value
    value = re.sub(r"\w+(?=\s*=)", lambda key: words.get(key.group(), key.group()), value)
    return re.sub(
        r"(\w+)(\s*=\s*)(\"\w+\")", lambda m: m[1] + m[2] + _swap(m[3], VALUES.get(m[1], {})), value
    )


def _rename_value(key: str, value: str, is_card: bool) -> str:
    if key == "purifiers":
        return re.sub(r'^"none"', "[]", value)
    if key != "network" or is_card:
        value = _swap(value, VALUES.get(key, {}))
    if key in ("data", "ood_data"):
        value = re.sub(r'"samples(?=["\[])', '"foolbox-samples', value)
    for old, new in PREFIXES.items():
        value = value.replace(f'"{old}', f'"{new}')
    return value


def _swap(value: str, words: Words) -> str:
    return re.sub(r'"(\w+)"', lambda word: f'"{words.get(word[1], word[1])}"', value)


def main(files: list[str]) -> int:
    """Migrate each file; its exit code."""
    if not files:
        print("write the cards and plans to migrate: migrate_0_2.py models/mine/card.toml")
        return 2
    for name in files:
        file = Path(name)
        before = file.read_text(encoding="utf-8")
        after = migrate(before)
        if after != before:
            file.write_text(after, encoding="utf-8")
        print(f"{name}: {'migrated' if after != before else 'is in the words of 0.2'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
