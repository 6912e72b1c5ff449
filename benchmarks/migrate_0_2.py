"""Write cards and plans of version 0.1 in the words of 0.2: ``migrate_0_2.py FILE.toml ...``.

Each file is changed in place; comments and the order of entries stay.  What is already in the new
words is left as it is, so a second run changes nothing.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

NETWORKS = {"plain_cnn": "small_cnn", "resnet": "cifar_resnet", "whitened_cnn": "airbench_cnn"}
COMPONENTS = {"churn": "edm_stochastic", "dpmpp": "dpmpp_2m", "spatial": "stadv",
              "ensemble": "auto_ensemble", "denoise_once": "one_step_denoising"}  # fmt: skip
JACOBIANS = {"straight": "identity", "symmetric": "finite_difference"}
SAMPLING = {
    "strength": "attack_scale", "precision": "similarity", "start": "sigma_start",
    "gradient": "jacobian", "estimate": "x0_estimate", "interval": "attack_interval",
    "variance": "likelihood_variance", "guidance": "attack_loss",
    "normalized": "normalize_gradient", "stop": "stop_margin", "retries": "max_restarts",
}  # fmt: skip
SAMPLER_OPTIONS = {
    "amount": "s_churn", "low": "s_tmin", "high": "s_tmax", "inflate": "s_noise",
    "stochastic": "sde",
}  # fmt: skip
TRAINING = {
    "rising": "warmup_images", "rate": "lr", "others_rate": "adam_lr", "decay": "weight_decay",
    "dropped": "label_dropout", "mirror": "hflip", "ends": "embed_layers", "noise": "ln_sigma",
    "bias_rate": "bias_lr_factor", "smoothing": "label_smoothing", "sides": "crop_schedule",
    "shift": "random_shift", "adversary": "adversarial", "radius": "eps", "stride": "step_size",
    "steps": "attack_steps", "extra_share": "extra_fraction", "finer": "grow_resolution",
}  # fmt: skip
SCHEDULE = {
    "images": "total_images", "batch": "batch_size", "widths": "ema_widths",
    "ema": "ema_rampup_ratio", "warmup": "warmup_fraction", "decay": "decay_fraction",
    "clip": "max_grad_norm", "precision": "dtype", "snapshots": "n_snapshots",
}  # fmt: skip
CARD_TABLES = {"levels": "schedule_kwargs", "shards": "weight_files", "figures": "metrics",
               "recipe.plan": "training_config.schedule", "recipe": "training_config"}  # fmt: skip
CARD_KEYS = {
    "": {"licence": "license"},
    "levels": {"pace": "time_scale"},
    "defaults": SAMPLING,
    "recipe.plan": SCHEDULE,
    "recipe": TRAINING,
}
PLAN_TABLES = {"sets": "datasets"}
PLAN_TOP = {"about": "description", "answers": "eval_draws", "micro_batch": "batch_size",
            "features": "feature_extractor"}  # fmt: skip
PLAN_SET = {"victims": "classifiers", "judge": "reference_classifier", "bring": "missing_hint",
            "random": "stochastic"}  # fmt: skip
PLAN_PURIFIER = SAMPLING | {
    "victims": "classifiers", "attacked": "attacker_options", "fixed": "shared_draw",
    "sets": "datasets", "vote": "aggregate",
}  # fmt: skip
PLAN_ATTACK = SAMPLING | {
    "victims": "classifiers", "strangers": "ood_data", "with_lpips": "requires_lpips",
    "answers": "eval_draws", "sets": "datasets", "epsilon": "eps", "bound": "eps",
    "draws": "eot_samples", "stop": "early_stop_draws", "weights": "eot_weighting",
    "targets": "n_target_classes", "queries": "n_queries", "share": "p_init",
    "keep": "return_iterate", "reach": "max_displacement", "wrong": "target",
    "rounds": "cg_iterations", "turns": "outer_steps",
}  # fmt: skip
PLAN_KEYS = {"": PLAN_TOP, "sets": PLAN_SET, "purifiers": PLAN_PURIFIER, "attacks": PLAN_ATTACK}
PREFIXES = {"with-detector:": "with-detector:", "bpda:": "bpda:", "obfuscated:": "obfuscated:"}


def migrate(text: str) -> str:
    """The text of a card or of a plan, in the words of 0.2."""
    is_card = re.search(r"^(kind|network)\s*=", text, re.MULTILINE) is not None
    tables, keys = (CARD_TABLES, CARD_KEYS) if is_card else (PLAN_TABLES, PLAN_KEYS)
    table, lines = "", []
    for line in text.splitlines(keepends=True):
        if head := re.match(r"\[([^\]]+)\]", line):
            table = head.group(1)
            line = f"[{_rename_table(table, tables)}]{line[head.end() :]}"
        elif pair := re.match(r"([A-Za-z0-9_]+)(\s*=\s*)", line):
            words = _words_of(table, keys)
            key = words.get(pair.group(1), pair.group(1))
            line = key + pair.group(2) + _rename_value(key, line[pair.end() :], is_card)
        lines.append(line)
    return "".join(lines)


def _rename_table(table: str, tables: Mapping[str, str]) -> str:
    for old, new in sorted(tables.items(), key=lambda pair: -len(pair[0])):
        if table == old or table.startswith(f"{old}."):
            return new + table[len(old) :]
    return table


def _words_of(table: str, keys: Mapping[str, Mapping[str, str]]) -> Mapping[str, str]:
    for name in sorted(keys, key=len, reverse=True):
        if name and (table == name or table.startswith(f"{name}.")):
            if table.endswith("sampler_options"):
                return SAMPLER_OPTIONS
            return keys[name]
    return keys[""] if not table else {}


def _rename_value(key: str, value: str, is_card: bool) -> str:
    if is_card and key == "network":
        return _swap_words(value, NETWORKS)
    if key == "jacobian":
        return _swap_words(value, JACOBIANS)
    if key in ("sampler", "attack", "purifier"):
        return _swap_words(value, COMPONENTS)
    if key == "norm":
        return _swap_words(value, {"linf": "Linf", "l2": "L2"})
    if key == "target":
        return _swap_words(value, {"second": "runner_up"})
    if key == "purifiers":
        return re.sub(r'^"none"', "[]", value)
    if key == "attacker_options":
        value = re.sub(r"\bvote\b", "aggregate", value.replace('"blind"', '"none"'))
        return re.sub(r"\b(start|precision)(?=\s*=)", lambda m: SAMPLING[m.group(1)], value)
    for old, new in PREFIXES.items():
        value = value.replace(f'"{old}', f'"{new}')
    return value


def _swap_words(value: str, words: Mapping[str, str]) -> str:
    return re.sub(r'"(\w+)"', lambda m: f'"{words.get(m.group(1), m.group(1))}"', value)


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
