"""`roadloop policy`: which policies there are, and a server for one."""

import logging
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to the `roadloop` application."""
    policy = typer.Typer(help="Driving policies: list them, serve one.", no_args_is_help=True)
    policy.command("list", help="Policies that are known by name.")(list_policies)
    policy.command("serve", help="Offer a policy over a WebSocket, in openpi's protocol.")(serve)
    app.add_typer(policy, name="policy")


def list_policies() -> None:
    """One name per line."""
    from .spec import policy_names

    for name in policy_names():
        typer.echo(name)


def serve(
    policy: Annotated[str, typer.Argument(help="Name, module:Class, or file; arguments behind '?'.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8000,
) -> None:
    """Serve until interrupted. Exit codes: 2 no such policy, 3 cannot listen."""
    from .serve import serve_policy
    from .spec import PolicySpecError, load_policy

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        serve_policy(
            load_policy(policy), host, port, lambda url: typer.echo(f"{policy} is listening on {url}")
        )
    except PolicySpecError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    except OSError as error:
        typer.echo(f"error: cannot listen on {host} port {port}: {error.strerror}", err=True)
        raise typer.Exit(3) from None
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
