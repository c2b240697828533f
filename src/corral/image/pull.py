"""Pull: from a name to a complete image in the store.

Owns the policy, the order of the places to try, and what is fetched side by side. Blobs that are here already are not
fetched, and those that another pull is fetching are waited for, so any number of pulls of one image cost one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal

from corral.errors import CorralError, InvalidArgument, NotFound, Unavailable, Unsupported
from corral.image.config import parse_config
from corral.image.credentials import Credentials, find_credentials
from corral.image.digests import digest_of
from corral.image.guard import Work
from corral.image.http import Patience
from corral.image.ingest import claim
from corral.image.manifest import MAX_CONFIG_BYTES, Descriptor, Index, Manifest, parse_manifest
from corral.image.parallel import do_all
from corral.image.platforms import fits, host_platform, parse_platform, select
from corral.image.policy import load_policy
from corral.image.progress import Cancel, Cancelled, Meter, OnProgress, Progress
from corral.image.registries import Endpoint, Registries, load_registries
from corral.image.registry import Registry

if TYPE_CHECKING:
    from corral.image.manifest import Platform
    from corral.image.reference import Reference
    from corral.image.store import Image, ImageStore

Policy = Literal["always", "missing", "never", "newer"]
POLICIES: tuple[Policy, ...] = ("always", "missing", "never", "newer")


@dataclass(frozen=True, slots=True)
class Access:
    """How to talk to registries: for pulls and pushes alike.

    ``credentials`` replace those of the files; ``authfile`` replaces the files; ``is_verified`` (--tls-verify) False
    makes every registry an insecure one, True none, and None is as registries.conf says.
    """

    credentials: Credentials | None = field(default=None, repr=False)
    authfile: str = ""
    is_verified: bool | None = None
    patience: Patience = field(default_factory=Patience)
    parallel: int = 4

    def open(self, endpoint: Endpoint, registries: Registries, cancel: Cancel) -> Registry:
        """A client of the endpoint's host, which the caller closes."""
        credentials = self.credentials
        if credentials is None or endpoint.is_mirror:
            helpers = registries.credential_helpers
            credentials = find_credentials(endpoint.host, endpoint.repository, self.authfile, helpers)
        is_insecure = endpoint.is_insecure if self.is_verified is None else not self.is_verified
        return Registry(endpoint.host, credentials, is_insecure=is_insecure, patience=self.patience, cancel=cancel)


def pull(
    store: ImageStore,
    name: str,
    *,
    policy: Policy = "missing",
    platform: str = "",
    access: Access | None = None,
    on_progress: OnProgress | None = None,
    cancel: Cancel | None = None,
) -> Image:
    """Have the image ``name`` in the store, as ``policy`` says, for ``platform`` (default: this machine's).

    ``newer`` and ``missing`` are content with the local image where no registry answers or has it. Blocks; safe to
    repeat and to interrupt. Raises: NotFound, PermissionDenied, Unavailable, InvalidArgument, Cancelled.
    """
    if policy not in POLICIES:
        raise InvalidArgument(f"pull {name}: policy {policy!r} is none of {', '.join(POLICIES)}")
    wanted = parse_platform(platform) if platform else host_platform()
    name = name.removeprefix("docker://")
    local = _local_or_none(store, name, wanted if platform else None)
    if local is not None and policy in ("missing", "never"):
        return local
    if policy == "never":
        raise NotFound(f"find image {name!r}: not in the store, and not to be pulled", hint="see --pull")
    puller = _Puller(store, access or Access(), on_progress, (cancel or Cancel()).child())
    puller.wanted, puller.is_explicit = wanted, bool(platform)
    try:
        return puller.pull(name, local if policy == "newer" else None)
    except (NotFound, Unavailable):
        if local is not None and policy == "newer":
            return local
        raise


def _local_or_none(store: ImageStore, name: str, wanted: Platform | None) -> Image | None:
    try:
        image = store.resolve(name)
    except NotFound:
        return None
    return image if wanted is None or fits(image.platform, wanted) else None


class _Puller:
    def __init__(self, store: ImageStore, access: Access, on_progress: OnProgress | None, cancel: Cancel) -> None:
        self._store = store
        self._access = access
        self._on_progress = on_progress
        self._cancel = cancel
        self._registries = load_registries()
        self._policy = load_policy()
        self.wanted = host_platform()
        self.is_explicit = False

    def pull(self, name: str, unless: Image | None) -> Image:
        """From the first place that has it; ``unless`` is the local image that may be new enough."""
        problems: list[CorralError] = []
        for reference in self._registries.candidates(name):
            for endpoint in self._registries.endpoints(reference):
                try:
                    self._policy.check_pull(reference)
                    return self._pull_from(reference, endpoint, unless)
                except Cancelled:
                    raise
                except CorralError as exc:
                    problems.append(exc)
        raise _joined(name, problems)

    def _pull_from(self, reference: Reference, endpoint: Endpoint, unless: Image | None) -> Image:
        self._store.blobs.make_directories()
        cancel = self._cancel.child()
        registry = self._access.open(endpoint, self._registries, cancel)
        try:
            if unless is not None:
                digest = registry.manifest_digest(endpoint.repository, reference.target)
                if f"{reference.name}@{digest}" in unless.repo_digests:
                    return unless
            with Work(self._store.path) as work:
                return self._fetch_image(_Source(registry, endpoint.repository, work, cancel), reference)
        finally:
            registry.close()

    def _fetch_image(self, source: _Source, reference: Reference) -> Image:
        fetched = source.registry.manifest(source.repository, reference.target)
        digests = [fetched.digest]
        parsed = parse_manifest(fetched.data, fetched.media_type, name=f"manifest of {reference}")
        if isinstance(parsed, Index):
            chosen = select(parsed, self.wanted, str(reference))
            fetched = source.registry.manifest(source.repository, chosen.digest)
            digests.append(fetched.digest)
            parsed = parse_manifest(fetched.data, fetched.media_type, name=f"manifest {fetched.digest} of {reference}")
        if not isinstance(parsed, Manifest):
            raise Unsupported(f"pull {reference}: an index within an index")
        # Asked for by another algorithm it is still stored by this one.
        manifest_digest = digest_of(fetched.data)
        source.work.keep([manifest_digest, *(item.digest for item in parsed.blobs())])
        self._store.blobs.put(fetched.data)
        self._fetch_blob(source, parsed.config, "config")
        self._check_config(parsed, reference)
        repo_digests = [f"{reference.name}@{digest}" for digest in digests]
        names = [reference.tagged] if reference.tag and not reference.digest else []
        # With this config complete here, its layers come to the same, however they were packed.
        if self._store.has_complete(parsed.config.digest):
            try:
                return self._store.add(manifest_digest, names=names, repo_digests=repo_digests)
            except NotFound:
                pass  # removed in between
        self._fetch_layers(source, parsed)
        return self._store.add(manifest_digest, names=names, repo_digests=repo_digests)

    def _check_config(self, manifest: Manifest, reference: Reference) -> None:
        digest = manifest.config.digest
        config = parse_config(self._store.blobs.read(digest, MAX_CONFIG_BYTES), f"config {digest}")
        if len(config.diff_ids) != len(manifest.layers):
            raise InvalidArgument(
                f"pull {reference}: its config has {len(config.diff_ids)} layers, its manifest {len(manifest.layers)}",
                hint="config and manifest do not belong together: do not trust this image",
            )
        offered = config.platform
        if offered.os != "linux":
            raise Unsupported(f"pull {reference}: it is for {offered}, and here is linux")
        if offered.architecture and not fits(offered, self.wanted):
            raise NotFound(
                f"pull {reference}: it is for {offered}, not for {self.wanted}",
                hint=f"--platform {offered} pulls it all the same" if not self.is_explicit else "",
            )

    def _fetch_layers(self, source: _Source, manifest: Manifest) -> None:
        layers = list({item.digest: item for item in manifest.layers}.values())
        for layer in layers:
            state: Literal["present", "waiting"] = "present" if self._store.blobs.has(layer.digest) else "waiting"
            if self._on_progress is not None:
                done = layer.size if state == "present" else 0
                self._on_progress(Progress(layer.digest, "layer", state, done, layer.size))
        missing = [layer for layer in layers if not self._store.blobs.has(layer.digest)]
        # When one layer cannot be had the others stop at their next chunk, and what they have stays.
        jobs = [partial(self._fetch_blob, source, layer, "layer") for layer in missing]
        do_all(jobs, at_once=self._access.parallel, cancel=source.cancel, name="corral-pull")

    def _fetch_blob(self, source: _Source, blob: Descriptor, what: Literal["config", "layer"]) -> None:
        if what == "config" and blob.size > MAX_CONFIG_BYTES:
            raise InvalidArgument(f"fetch config {blob.digest}: larger than {MAX_CONFIG_BYTES} bytes")
        meter = Meter(Progress(blob.digest, what, "waiting", 0, blob.size), self._on_progress)
        part = claim(self._store.blobs, blob, source.cancel, lambda size: meter.report("elsewhere", size))
        if part is not None:
            with part:
                meter.report("moving", part.offset)
                source.registry.fetch_blob(source.repository, part, lambda size: meter.report("moving", size))
        if self._store.blobs.size(blob.digest) != blob.size:
            raise InvalidArgument(f"fetch blob {blob.digest}: it has not the {blob.size} bytes that its manifest says")
        meter.report("done", blob.size)


@dataclass(frozen=True, slots=True)
class _Source:
    registry: Registry
    repository: str
    work: Work
    cancel: Cancel


def _joined(name: str, problems: list[CorralError]) -> CorralError:
    """One error for what went wrong at several places: of the kind that says most."""
    if len(problems) == 1:
        return problems[0]
    first = next((item for item in problems if not isinstance(item, NotFound)), problems[0])
    causes = "; ".join(item.message for item in problems)
    return type(first)(f"pull {name}: nowhere to be had: {causes}", hint=first.hint)
