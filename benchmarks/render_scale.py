"""The tables on large runs: a million images, and what images cost on GPUs."""

from typing import Any

from markdown_parts import table

Row = dict[str, Any]


def cost_model(data: Row) -> str:
    gpus = data["gpus"]
    head = ["model", "pixels", "task", "calls", "TFLOP", *(gpu["name"] for gpu in gpus)]
    body = [
        [
            f"`{row['model']}`", str(row["pixels"]), row["task"], str(row["calls"]),
            f"{row['tflop']:.1f}",
            *(f"{row['images_a_dollar'][gpu['name']]:,.0f}" for gpu in gpus),
        ]
        for row in data["rows"]
    ]  # fmt: skip
    assumed = "; ".join(
        f"{gpu['name']} {gpu['tflops']:g} TFLOP/s, {gpu['dollars']:g} dollars an hour"
        for gpu in gpus
    )
    return (
        f"\nImages a dollar, a model and no measurement. Prices: {data['source']}, "
        f"{data['date']}. Utilization of the peak: {100 * data['utilization']:.0f} %, an "
        f"assumption. A call with a gradient counts three times.\n\n{assumed}.\n\n"
        + table(head, body)
    )


def million(data: Row) -> str:
    done, told, cost = data["run"], data["forecast"], data["microseconds_a_row"]
    disk = data["disk"]
    body = [
        ["rows", f"{done['images']:,}, {data['workers']} workers of Ray"],
        ["seconds", f"{done['seconds']:,.0f}; {done['driver_cpu_seconds']:,.0f} of the driver's "
                    "processor"],
        ["forecast", f"{told['seconds']:,.0f} s, once {told['from_rows']:,} rows were written: "
                     f"{told['over_measured']:.2f} of what was measured"],
        ["a row, one process", f"{cost['whole_run_in_one_process']} µs of the processor; "
                               f"{cost['engine']} µs without sampling"],
        ["a row, driver beside Ray", f"{cost['driver_with_ray']} µs"],
        ["disk", f"{disk['megabytes']:,} MB in {disk['files']:,} files; rows.jsonl "
                 f"{disk['rows_jsonl_megabytes']:,} MB; {disk['shards']:,} shards"],
    ]  # fmt: skip
    if "exact" in data:
        exact = data["exact"]
        body.append(["rows exact", (
            f"{exact['rows']:,}, ids in order: {'yes' if exact['ids_in_order'] else 'no'}; "
            f"{exact['compared']:,} computed again without a run, {exact['different']} differ"
        )])  # fmt: skip
    if "report" in data:
        page = data["report"]
        body.append(["report", (
            f"{page['seconds']:.0f} s, {page['cpu_seconds']:.0f} of the processor; "
            f"peak {page['peak_mb']:.0f} MiB; page {page['page_mb']:.1f} MiB"
        )])  # fmt: skip
    if "resume" in data:
        again = data["resume"]
        first = again["until_first_batch"]
        body.append(["resume", (
            f"{first['seconds']:.0f} s until the first batch, {first['cpu_seconds']:.0f} of the "
            f"processor; the same rows: {'yes' if again['same_rows'] else 'no'}"
        )])  # fmt: skip
    total = data["memory"][-1]["rows_bytes"]
    memory = [
        [
            f"{100 * one['rows_bytes'] / total:.0f} %", f"{one['seconds']:,.0f}",
            str(one["driver_mb"]), str(one["largest_worker_mb"]),
        ]
        for one in data["memory"]
    ]  # fmt: skip
    load = " / ".join(f"{value:g}" for value in data["load"])
    return (
        f"\nImages of 4 x 4, a score model of one multiplication, WebDataset shards; load of the "
        f"machine at the end {load}.\n\n" + table(["", "measured"], body) + "\n"
        + table(["of the rows", "seconds", "driver, MiB", "largest worker, MiB"], memory)
    )  # fmt: skip
