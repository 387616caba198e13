#include "allreduce/communicator.h"

#include <vector>

#include "base/check.h"

namespace dtrain {

Status Communicator::AllGather(std::span<const std::byte> mine, std::span<std::byte> all, Deadline deadline) {
  DTRAIN_CHECK(all.size() == mine.size() * static_cast<size_t>(size()));
  std::vector<std::span<std::byte>> parts;
  for (int rank = 0; rank < size(); ++rank) parts.push_back(all.subspan(rank * mine.size(), mine.size()));
  return AllGatherParts(mine, parts, deadline);
}

}  // namespace dtrain
