"""A user's classifier: akamaster's ResNet-20, from the file that AKAMASTER_RESNET20 names.

AKAMASTER_RESNET20=resnet20-12fca82f.th scoreag doctor --classifier bring_your_own:resnet20 ...
"""

import os

from torch import nn

import scoreag
from scoreag.classifiers.networks import cifar_resnet
from scoreag.classifiers.state_dict import load_checkpoint


def resnet20() -> nn.Module:
    module = load_checkpoint(
        os.environ["AKAMASTER_RESNET20"], cifar_resnet.build(depth=20, shortcut="A")
    )
    return scoreag.wrap_classifier(
        module.eval(), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
