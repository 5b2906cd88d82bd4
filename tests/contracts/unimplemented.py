"""The rpcs that the contract declares and this version answers with UNIMPLEMENTED; each leaves when it is built."""

UNIMPLEMENTED: dict[str, set[str]] = {
    "imagemesh.router.v1.JobService": {
        "DeleteJob",
        "CreateBatch",
        "GetBatch",
        "ListBatches",
        "WatchBatch",
        "CancelBatch",
    },
    "imagemesh.router.v1.CatalogService": {"SetProviderState", "ReloadCatalog"},
    "imagemesh.router.v1.UsageService": {"ListBudgets", "SetBudget"},
    "imagemesh.router.v1.ApiKeyService": set(),
    "imagemesh.router.v1.TemplateService": {
        "SetTemplate",
        "GetTemplate",
        "ListTemplates",
        "RenderTemplate",
        "DeleteTemplate",
    },
    "imagemesh.router.v1.WebhookService": {"ListDeliveries", "RedeliverWebhook", "RotateWebhookSecret"},
    "imagemesh.router.v1.EvaluationService": {
        "CreateEvaluation",
        "GetEvaluation",
        "ListEvaluations",
        "CancelEvaluation",
    },
    "imagemesh.inference.v1.InferenceService": set(),
    "imagemesh.moderation.v1.ModerationService": set(),
    "imagemesh.moderation.v1.ReviewService": set(),
    "imagemesh.moderation.v1.AuditService": set(),
    "imagemesh.storage.v1.StorageService": {"CreateRendition"},
}
