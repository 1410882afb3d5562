"""What the engine offers of registries: pull, push, a look at an image that stays there, and a login. For any number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

from engine import ceilings
from engine.claims import Claims
from engine.config import EngineConfig, RegistryConfig
from engine.errors import EngineError, InvalidArgument
from engine.images.imageconfig import parse_config
from engine.images.store import ImageStore
from engine.images.streams import capped, chunks
from engine.model import grants
from engine.model.reference import Reference
from engine.networks import Networks
from engine.registries import words
from engine.registries.auth import NOBODY, Credentials
from engine.registries.desk import Desk, Session
from engine.registries.fetches import Fetches
from engine.registries.manifests import Descriptor, Document, platform_of, verify
from engine.registries.pull import Pull
from engine.registries.push import Push
from engine.registries.reach import Reach
from engine.tenants import Tenants

_PLATFORMS: Final = 64  # of an index without platforms in it, whose manifests are looked into


class Transfer(Protocol):
    """A pull or a push: lines for one thread, ``cancel`` for any."""

    def __iter__(self) -> Iterator[dict[str, Any]]: ...

    def cancel(self) -> None: ...


class Recorded:
    """A transfer whose lines become others on their way."""

    def __init__(self, transfer: Transfer, change: Callable[[Iterator[dict[str, Any]]], Iterator[dict[str, Any]]]) -> None:
        self._transfer, self._change = transfer, change

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self._change(iter(self._transfer))

    def cancel(self) -> None:
        self._transfer.cancel()


class Registries:
    def __init__(self, config: EngineConfig, tenants: Tenants, images: ImageStore, networks: Networks) -> None:
        self._config, self._tenants, self._images, self._networks = config, tenants, images, networks
        self._desk = Desk(config)
        self._fetches = Fetches()

    def pull(self, tenant: str, name: str, *, platform: str = "", credentials: Credentials = NOBODY, every_tag: bool = False) -> Transfer:
        """InvalidArgument for words that mean nothing; everything else comes with the first line."""
        reference = Reference.parse(name)
        pull = Pull(self._images, self._fetches, tenant, self._session(tenant, reference, credentials), reference, platform)
        return _EveryTag(pull) if every_tag else pull

    def push(self, tenant: str, name: str, *, credentials: Credentials = NOBODY, every_tag: bool = False) -> Transfer:
        reference = Reference.parse(name)
        if reference.digest:
            raise InvalidArgument("cannot push a digest reference")
        session = self._session(tenant, reference, credentials, push=True)
        return Push(self._images, tenant, session, reference, every_tag=every_tag)

    def inspect(self, tenant: str, name: str, credentials: Credentials = NOBODY) -> dict[str, Any]:
        """Docker's DistributionInspect: {"Descriptor": {"mediaType", "digest", "size"}, "Platforms": [{"architecture", "os", …}]}."""
        reference = Reference.parse(name)
        with self._session(tenant, reference, credentials) as session:
            try:
                media_type, data = session.manifest(reference.digest or reference.tag)
                if reference.digest:
                    verify(data, reference.digest)
                document = Document.read(media_type, data)
                platforms = _of_index(document) if document.is_index else [self._of_config(session, document.config())]
            except EngineError as error:
                raise words.of_pull(error, reference) from error
        shown = {"mediaType": document.media_type, "digest": reference.digest or document.digest, "size": len(data)}
        return {"Descriptor": shown, "Platforms": platforms}

    def login(self, tenant: str, domain: str, credentials: Credentials) -> str:
        """The identity token that the registry wants to see from now on in place of the password, if it gave one."""
        self._check(tenant, domain)
        with self._desk.session(domain, "", credentials, self._reach(tenant), push=True) as session:
            return session.login()

    def close(self) -> None:
        """The courier ends, and whatever it was doing."""
        self._desk.close()

    def _of_config(self, session: Session, descriptor: Descriptor) -> dict[str, Any]:
        limit = self._images.limits.document_bytes
        if descriptor.size > limit:
            raise InvalidArgument(f"the image config is larger than {limit} bytes, the limit of this host")
        with session.blob(descriptor.digest, descriptor.size) as stream:
            data = b"".join(capped(chunks(stream), limit, "the image config"))
        descriptor.verify(data)
        return platform_of(parse_config(data))

    def _session(self, tenant: str, reference: Reference, credentials: Credentials, *, push: bool = False) -> Session:
        self._check(tenant, reference.domain)
        return self._desk.session(reference.domain, reference.path, credentials, self._reach(tenant), push=push)

    def _check(self, tenant: str, domain: str) -> None:
        """PermissionDenied for one that the panel's policy or this host's ceiling leaves out, by its name; where it leads is reach's."""
        if not grants.holds_registry(domain, self._tenants.get(tenant).registries):
            raise grants.not_in_policy(tenant, "registries", f"registry {domain} is")
        ceilings.check_registry(tenant, domain, ceilings.read(self._config, tenant))

    def _reach(self, tenant: str) -> Reach:
        """The tenant's own networks are within it: a registry may run there. All others of this instance, and what any claims, are not."""
        claims, own = Claims(), [self._tenants.get(tenant).subnet]
        closed = [str(network) for version in (4, 6) for network in claims.everyones(version)]
        for spec in self._networks.specs():
            given = [pool.subnet for pool in (spec.pool, spec.ipv6_pool) if pool is not None]
            (own if spec.tenant == tenant else closed).extend(given)
        return Reach(RegistryConfig.from_environment().allowed, tuple(closed), tuple(own))


class _EveryTag:
    def __init__(self, pull: Pull) -> None:
        self._pull = pull

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self._pull.every_tag()

    def cancel(self) -> None:
        self._pull.cancel()


def _of_index(document: Document) -> list[dict[str, Any]]:
    return [platform_of(child.platform) for child in document.children()[:_PLATFORMS] if child.platform is not None]
