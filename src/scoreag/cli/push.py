"""push: publish a card at the Hugging Face Hub."""

import sys
from dataclasses import dataclass
from typing import Annotated

from scoreag.cli import options as o
from scoreag.cli.runs import format_table


@dataclass(frozen=True, kw_only=True)
class PushOptions:
    card: Annotated[str, o.Opt("A card's name or folder.", positional=True)]
    to: Annotated[str, o.Opt("hf://OWNER/NAME, or hf://OWNER/NAME@BRANCH.", positional=True)]
    private: Annotated[bool, o.switch("A new repository is seen by its owner only.")] = False
    dry_run: Annotated[bool, o.switch("Show what would be uploaded; upload nothing.")] = False
    output: o.OutputOptions


def push(options: PushOptions) -> None:
    """Publish a card at the Hugging Face Hub, with a model card.

    scoreag push models/mine hf://owner/mine --dry-run
    """
    from scoreag.models import publish
    from scoreag.models.model_cards import load_card

    card = load_card(options.card, trust_code=True)  # nothing is run: its network is not built
    upload = publish.plan_upload(card, options.to)
    if card.license in publish.UNSTATED:
        print(
            f"scoreag: warning: the card of {card.name} states no license, so nobody may use it; "
            "write license = ... into card.toml",
            file=sys.stderr,
        )
    found = {"to": options.to, "files": upload.sizes(), "private": options.private}
    lines = [(name, f"{size:,} bytes") for name, size in upload.sizes().items()]
    if options.dry_run:
        readme = upload.files[publish.README]
        assert isinstance(readme, bytes)
        text = f"{format_table(lines)}\n\n{readme.decode()}"
        options.output.show({**found, "readme": readme.decode()}, text)
        return
    pinned = publish.push(upload, options.private)
    options.output.show({**found, "pinned": pinned}, format_table([*lines, ("pinned", pinned)]))
