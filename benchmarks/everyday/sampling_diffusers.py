"""Sixteen images of given classes by my diffusion model, as PNG.

No pipeline of diffusers samples a UNet2DModel with classes; this is the loop of its own guide.
"""

from pathlib import Path

import torch
from diffusers import DDPMPipeline
from torchvision.utils import save_image

pipe = DDPMPipeline.from_pretrained("ddpm")
labels = torch.tensor([number % 10 for number in range(16)])
images = torch.randn(16, 1, 28, 28, generator=torch.manual_seed(0))
pipe.scheduler.set_timesteps(50)
for t in pipe.scheduler.timesteps:
    with torch.no_grad():
        noise = pipe.unet(images, t, labels).sample
    images = pipe.scheduler.step(noise, t, images).prev_sample
Path("out").mkdir()
for number, image in enumerate(images):
    save_image((image / 2 + 0.5).clamp(0, 1), f"out/{number}.png")
