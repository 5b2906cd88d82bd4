"""The rpcs of JobService about batches and deletion: declared in the contract, for later."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NoReturn

from imagemesh.router.v1 import job_service_pb2 as pb
from imagemesh.router.v1 import job_service_pb2_grpc

from mesh.errors import unimplemented


class BatchRpcs(job_service_pb2_grpc.JobServiceServicer):
    """Base of the JobService: these rpcs answer UNIMPLEMENTED."""

    async def DeleteJob(self, request: pb.DeleteJobRequest, context: Any) -> NoReturn:
        """For later."""
        raise unimplemented("JobService.DeleteJob", "delete its assets with StorageService.DeleteAsset")

    async def CreateBatch(self, request: pb.CreateBatchRequest, context: Any) -> NoReturn:
        """For later."""
        raise unimplemented("JobService.CreateBatch", "create jobs with a common label and list them by it")

    async def GetBatch(self, request: pb.GetBatchRequest, context: Any) -> NoReturn:
        """For later."""
        raise unimplemented("JobService.GetBatch", "create jobs with a common label and list them by it")

    async def ListBatches(self, request: pb.ListBatchesRequest, context: Any) -> NoReturn:
        """For later."""
        raise unimplemented("JobService.ListBatches", "create jobs with a common label and list them by it")

    async def WatchBatch(self, request: pb.WatchBatchRequest, context: Any) -> AsyncIterator[pb.WatchBatchResponse]:
        """For later."""
        raise unimplemented("JobService.WatchBatch", "create jobs with a common label and list them by it")
        yield pb.WatchBatchResponse()

    async def CancelBatch(self, request: pb.CancelBatchRequest, context: Any) -> NoReturn:
        """For later."""
        raise unimplemented("JobService.CancelBatch", "create jobs with a common label and list them by it")
