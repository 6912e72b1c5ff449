"""A user's classifier: akamaster's ResNet-20, from the file that AKAMASTER_RESNET20 names.

AKAMASTER_RESNET20=resnet20-12fca82f.th scoreag doctor --classifier bring_your_own:resnet20 ...
"""

import os

from torch import nn

import scoreag
from scoreag.classifiers.checkpoint import load_checkpoint
from scoreag.networks import resnet


def resnet20() -> nn.Module:
    module = load_checkpoint(os.environ["AKAMASTER_RESNET20"], resnet.build(depth=20, shortcut="A"))
    return scoreag.classifier(module.eval(), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
