"""`roadloop train`: from a folder of episodes to a shipped checkpoint."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ..allocator import keep_freed_memory

Config = Annotated[str, typer.Option("--config", help="A training preset or a YAML file.")]
Out = Annotated[str | None, typer.Option("--out", help="Folder of the run, instead of the config's.")]
Minutes = Annotated[
    float | None,
    typer.Option("--minutes", min=0.01, help="End after this much training; the rate decays in time."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in the run's folder.")]


def register(app: typer.Typer) -> None:
    """Add `train` with its sub-commands."""
    train = typer.Typer(
        no_args_is_help=True,
        help="Train the tokeniser and the world model.",
        callback=keep_freed_memory,
    )
    train.command("cache")(cache)
    train.command("encode")(encode)
    train.command("tokenizer")(tokenizer)
    train.command("decoder")(decoder)
    train.command("depth")(depth)
    train.command("dynamics")(dynamics)
    train.command("assemble")(assemble)
    train.command("average")(average)
    train.command("widen")(widen)
    train.command("judge")(judge)
    app.add_typer(train, name="train")


def cache(
    episodes: Annotated[Path, typer.Argument(help="A folder made by `roadloop data build`.")],
    clips: Annotated[Path, typer.Argument(help="Where the clips go.")],
    longest: Annotated[int, typer.Option(min=9, help="Latent frames per clip, at most.")] = 40,
) -> None:
    """Unpack episodes into clips that training can map into memory. Run it again for episodes built since."""
    from ..training.cache import cache_episodes

    count = cache_episodes(episodes, clips, longest, lambda clip: typer.echo(clip.folder.name))
    typer.echo(f"{count} new clips in {clips}")


def encode(
    clips: Annotated[Path, typer.Argument(help="A folder of clips.")],
    tokenizer: Annotated[Path, typer.Option(help="Checkpoint of the tokeniser, or of a model that has it.")],
    keep_frames: Annotated[bool, typer.Option(help="Keep the pictures: needed for held-out clips.")] = False,
    threads: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Run the tokeniser over clips once. Clips that it has encoded already are left alone."""
    import torch

    from ..training.clips import open_clips
    from ..training.encode import encode_clips
    from ..training.tokenizer_file import latent_digest, load_tokenizer

    torch.set_num_threads(threads)
    model = load_tokenizer(tokenizer)
    count = encode_clips(open_clips(clips), model, keep_frames)
    typer.echo(f"encoded {count} clips with {latent_digest(model)[:12]}")


def tokenizer(config: Config, out: Out = None, minutes: Minutes = None, resume: Resume = False) -> None:
    """Train the autoencoder."""
    from ..training.runs import train_tokenizer

    typer.echo(train_tokenizer(config, out, minutes, resume))


def decoder(config: Config, out: Out = None, minutes: Minutes = None, resume: Resume = False) -> None:
    """Train a tokeniser's decoder on carried pictures and a model's own errors; its latents stay what they are."""
    from ..training.runs import train_decoder

    typer.echo(train_decoder(config, out, minutes, resume))


def depth(config: Config, out: Out = None, minutes: Minutes = None, resume: Resume = False) -> None:
    """Train the network that sessions without layout know distances by, on encoded clips that kept their frames."""
    from ..training.runs import train_depth

    typer.echo(train_depth(config, out, minutes, resume))


def dynamics(config: Config, out: Out = None, minutes: Minutes = None, resume: Resume = False) -> None:
    """Train the diffusion transformer on encoded clips."""
    from ..training.runs import train_dynamics

    typer.echo(train_dynamics(config, out, minutes, resume))


def assemble(
    model: Annotated[Path, typer.Argument(help="Checkpoint of a world model.")],
    out: Annotated[Path, typer.Option(help="Where the new checkpoint goes.")],
    tokenizer: Annotated[
        Path | None, typer.Option(help="Checkpoint of its tokeniser with a polished decoder.")
    ] = None,
    depth: Annotated[
        Path | None, typer.Option(help="Checkpoint of a depth network, for its sessions without layout.")
    ] = None,
    moved_encoder: Annotated[
        bool,
        typer.Option("--moved-encoder", help="Take its encoder too, which made other latents in training."),
    ] = False,
) -> None:
    """Put a polished decoder or a depth network into a trained world model."""
    from ..training.assemble import assemble as put_together

    if tokenizer is None and depth is None:
        raise typer.BadParameter("expected --tokenizer or --depth, got neither")
    typer.echo(f"{out} {put_together(model, out, tokenizer, moved_encoder, depth)[:12]}")


def average(
    model: Annotated[Path, typer.Argument(help="Checkpoint of a world model.")],
    other: Annotated[Path, typer.Argument(help="One that began with the same weights.")],
    out: Annotated[Path, typer.Option(help="Where the new checkpoint goes.")],
    network: Annotated[float, typer.Option(min=0, max=1, help="How far the network goes.")] = 0.5,
    decoder: Annotated[float, typer.Option(min=0, max=1, help="How far the decoder goes.")] = 0.0,
) -> None:
    """Average two models that began with the same weights."""
    from ..training.average import average as mixed

    typer.echo(f"{out} {mixed(model, other, out, network, decoder)[:12]}")


def widen(
    model: Annotated[
        Path, typer.Argument(help="Checkpoint of a world model made for fewer layout channels.")
    ],
    out: Annotated[Path, typer.Option(help="Where the new checkpoint goes.")],
) -> None:
    """Let a model read the layout channels that were added after it was trained; as yet they change nothing."""
    from ..training.widen import widen as widened

    typer.echo(f"{out} {widened(model, out)[:12]}")


def judge(
    model: Annotated[str, typer.Argument(help="A shipped model, or a checkpoint.")],
    clips: Annotated[Path, typer.Argument(help="Held-out clips that its tokeniser has encoded.")],
    count: Annotated[int, typer.Option(min=1, help="Clips to roll out.")] = 6,
    chunks: Annotated[int, typer.Option(min=1, help="Chunks to roll out, at most those of the clips.")] = 24,
    steps: Annotated[int | None, typer.Option(help="Denoising steps; the model's own if not given.")] = None,
    threads: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    """Take one thing away at a time, steps, cycle, window, layout, carried pictures, and print what is left."""
    import torch

    from ..model.world_model import load_world_model
    from ..training.clips import open_clips
    from ..training.judge import judge as judged
    from ..training.judge import row

    torch.set_num_threads(threads)
    chosen = open_clips(clips, encoded=True)[:count]
    length = min([chunks, *(clip.latents for clip in chosen)])
    loaded = load_world_model(model)
    loaded = replace(loaded, config=replace(loaded.config, steps=steps or loaded.config.steps))
    for name, scores in judged(loaded, chosen, length):
        typer.echo(row(name, scores))
