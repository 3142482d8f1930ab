"""What an order may choose from."""

from __future__ import annotations

import dataclasses

from clusters.models import CatalogModel, Cluster, NodePool, Region, SloClass
from tenants.models import Project


@dataclasses.dataclass(frozen=True, kw_only=True)
class Offered:
    """What an order may choose from, read once."""

    models: dict[str, CatalogModel]
    projects: dict[str, Project]
    classes: dict[str, SloClass]
    regions: list[Region]
    clusters: list[Cluster]
    gpus: list[str]

    @classmethod
    def read(cls) -> Offered:
        """Read what the open tenant may choose from."""
        clusters = list(Cluster.objects.present().select_related("region"))
        pools = NodePool.objects.filter(cluster__in=clusters)
        return cls(
            models={model.name: model for model in CatalogModel.objects.filter(published=True)},
            projects={project.slug: project for project in Project.objects.order_by("created_at")},
            classes={slo_class.name: slo_class for slo_class in SloClass.objects.all()},
            regions=list(Region.objects.all()),
            clusters=clusters,
            gpus=sorted(set(pools.values_list("gpu_type__name", flat=True))),
        )

    @property
    def certifications(self) -> list[str]:
        return sorted({each for region in self.regions for each in region.certifications})

    @property
    def places(self) -> list[tuple[str, str]]:
        """Codes of zones and regions with their names."""
        zones = sorted({zone for region in self.regions for zone in region.zones})
        return [
            *((zone, f"Zone {zone}") for zone in zones),
            *((region.code, region.name) for region in self.regions),
        ]
