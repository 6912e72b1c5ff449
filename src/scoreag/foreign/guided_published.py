"""The arguments of the published files of guided-diffusion and improved-diffusion, by file name.

From github.com/openai/guided-diffusion and github.com/openai/improved-diffusion, README.
"""

from typing import Any

LARGE: dict[str, Any] = {
    "attention_resolutions": [32, 16, 8], "num_head_channels": 64, "resblock_updown": True,
    "use_scale_shift_norm": True, "learn_sigma": True, "noise_schedule": "linear",
}  # fmt: skip
OF_256 = LARGE | {"image_size": 256, "num_channels": 256, "num_res_blocks": 2}
UNCONDITIONAL = OF_256 | {"class_cond": False}
SMALL: dict[str, Any] = {
    "attention_resolutions": [16, 8], "num_heads": 4, "resblock_updown": False,
    "use_scale_shift_norm": True, "learn_sigma": True, "class_cond": False, "num_channels": 128,
    "num_res_blocks": 3, "noise_schedule": "cosine", "diffusion_steps": 4000,
    "rescale_timesteps": True,
}  # fmt: skip
BEDROOM = SMALL | {
    "image_size": 256, "num_res_blocks": 2, "num_heads": 1, "use_scale_shift_norm": False,
    "attention_resolutions": [16], "noise_schedule": "linear", "diffusion_steps": 1000,
    "rescale_timesteps": False,
}  # fmt: skip
PUBLISHED: dict[str, dict[str, Any]] = {
    "64x64_diffusion.pt": LARGE | {
        "image_size": 64, "num_channels": 192, "num_res_blocks": 3, "class_cond": True,
        "noise_schedule": "cosine", "use_new_attention_order": True,
    },
    "128x128_diffusion.pt": LARGE | {
        "image_size": 128, "num_channels": 256, "num_res_blocks": 2, "class_cond": True,
        "num_heads": 4, "num_head_channels": -1,
    },
    "256x256_diffusion.pt": OF_256 | {"class_cond": True},
    "256x256_diffusion_uncond.pt": UNCONDITIONAL,
    "lsun_bedroom.pt": UNCONDITIONAL,
    "lsun_cat.pt": UNCONDITIONAL,
    "lsun_horse.pt": UNCONDITIONAL,
    "lsun_horse_nodropout.pt": UNCONDITIONAL,
    "cifar10_uncond_50M_500K.pt": SMALL | {"image_size": 32},
    "cifar10_uncond_vlb_50M_500K.pt": SMALL | {"image_size": 32},
    "imagenet64_uncond_100M_1500K.pt": SMALL | {"image_size": 64},
    "imagenet64_uncond_vlb_100M_1500K.pt": SMALL | {"image_size": 64},
    "imagenet64_cond_270M_250K.pt": SMALL | {
        "image_size": 64, "num_channels": 192, "class_cond": True, "rescale_timesteps": False,
    },
    "lsun_uncond_100M_1200K_bs128.pt": BEDROOM,
    "lsun_uncond_100M_2400K_bs64.pt": BEDROOM,
}  # fmt: skip
