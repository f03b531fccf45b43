"""Resolves a model or alias to its chain. Pure."""

from config.catalogue import Catalogue
from schemas.errors import UnknownModel
from schemas.job import Target

MAX_NAMES_IN_MESSAGE = 20


class Routes:
    """Chains by name; an alias hides a model of the same name."""

    def __init__(self, catalogue: Catalogue) -> None:
        names = {name: (name,) for name in catalogue.models} | catalogue.aliases
        self._chains = {name: tuple(_target(catalogue, model) for model in models) for name, models in names.items()}

    def chain(self, model: str) -> tuple[Target, ...]:
        """Return the targets to try in order. Raises UnknownModel, listing the known names."""
        try:
            return self._chains[model]
        except KeyError:
            names = sorted(self._chains)
            more = ", …" if len(names) > MAX_NAMES_IN_MESSAGE else ""
            known = ", ".join(names[:MAX_NAMES_IN_MESSAGE]) + more
            raise UnknownModel(
                f"No model or alias is called {model[:100]!r} here; there are: {known}.", param="model"
            ) from None


def _target(catalogue: Catalogue, name: str) -> Target:
    return Target(account=catalogue.models[name].provider, model=name)
