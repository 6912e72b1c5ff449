"""The models of the everyday tasks that nobody publishes: a small DDPM, weights for RobustBench.

    python benchmarks/everyday_models.py FOLDER

A class-conditional DDPM of Fashion-MNIST is trained by diffusers and saved as its folder; a small
classifier is trained beside it.  The network ``Wong2020Fast`` of RobustBench's zoo gets random
convolutions and a last layer that is fitted to CIFAR-10, since the published weights lie on a
server: it proves how a file is loaded.
"""

import argparse
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

import scoreag

SCRIPTS = Path(__file__).parent / "everyday"
sys.path[:0] = [str(SCRIPTS), str(SCRIPTS / "stand_ins")]
NULL = 10  # the label of "no class"
STEPS, BATCH, EMA = 1000, 32, 0.99
WONG = "Wong2020Fast"


def train_ddpm(folder: Path, seconds: float) -> None:
    """A UNet2DModel and a DDPMScheduler, as diffusers saves a pipeline."""
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    torch.manual_seed(0)
    images, labels = scoreag.load_data("fashion-mnist:train[0:55000]")
    net = UNet2DModel(
        sample_size=28, in_channels=1, out_channels=1, layers_per_block=1,
        block_out_channels=(16, 32, 48), norm_num_groups=8, num_class_embeds=NULL + 1,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    schedule = DDPMScheduler(num_train_timesteps=1000)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    warm = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=STEPS)
    mean = {name: value.clone() for name, value in net.state_dict().items()}
    begin = time.perf_counter()
    for number in range(STEPS):
        rows = torch.randint(len(images), (BATCH,))
        x, y = 2 * images[rows] - 1, labels[rows].clone()
        y[torch.rand(BATCH) < 0.15] = NULL
        t, noise = torch.randint(1000, (BATCH,)), torch.randn_like(x)
        loss = (net(schedule.add_noise(x, noise, t), t, y).sample - noise).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warm.step()
        for name, value in net.state_dict().items():
            mean[name].lerp_(value, 1 - min(EMA, (1 + number) / (10 + number)))
        if number % 50 == 0:
            print(number, f"{loss.item():.4f} {time.perf_counter() - begin:.0f} s", flush=True)
        if time.perf_counter() - begin > seconds:
            break
    net.load_state_dict(mean)
    DDPMPipeline(net, schedule).save_pretrained(folder)


def train_classifier(file: Path) -> None:
    """The user's own network for Fashion-MNIST."""
    from mine import fashion_network

    torch.manual_seed(0)
    images, labels = scoreag.load_data("fashion-mnist:train[0:55000]")
    net = fashion_network()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    falling = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=800)
    for _ in range(800):
        rows = torch.randint(len(images), (128,))
        loss = nn.functional.cross_entropy(net(images[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        falling.step()
    torch.save(net.state_dict(), file)
    print("fashion", f"loss {loss.item():.3f}", flush=True)


@torch.no_grad()
def fit_wong(file: Path, count: int = 1500) -> None:
    """Ridge regression on the features of a network that is not trained."""
    from robustbench.model_zoo.cifar10 import Wong2020FastNet

    torch.manual_seed(0)
    net = Wong2020FastNet().eval()
    images, labels = scoreag.load_data(f"cifar10:train[0:{count}]")
    seen: list[Tensor] = []
    hook = net.linear.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    for part in images.split(100):
        net(part)
    hook.remove()
    features = torch.cat(seen).double()
    center, scale = features.mean(0), features.std(0) + 1e-6
    x, y = (features - center) / scale, nn.functional.one_hot(labels, 10).double() - 0.1
    weight = torch.linalg.solve(x.T @ x + 0.3 * count * torch.eye(x.shape[1]).double(), x.T @ y)
    net.linear.weight.copy_((weight / scale[:, None]).T.float())
    net.linear.bias.copy_(-(center / scale) @ weight)
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(net.state_dict(), file)
    print(WONG, f"{((x @ weight).argmax(1) == labels).double().mean():.2f} of its training images")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=480, help="of the DDPM's training at most")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.folder.mkdir(parents=True, exist_ok=True)
    train_classifier(args.folder / "fashion.pt")
    fit_wong(args.folder / "models" / "cifar10" / "Linf" / f"{WONG}.pt")
    train_ddpm(args.folder / "ddpm", args.seconds)


if __name__ == "__main__":
    main()
