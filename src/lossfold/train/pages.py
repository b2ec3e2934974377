"""Templates of the pages: one HTML file each that needs nothing else."""

from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template


def template(name: str) -> Template:
    """A template of the folder `templates`; what it is not given is an error."""
    environment = Environment(
        loader=FunctionLoader(lambda file: (files("lossfold.train") / "templates" / file).read_text("utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
