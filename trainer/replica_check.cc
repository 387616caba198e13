#include "trainer/replica_check.h"

#include <algorithm>
#include <cstring>

#include "base/crc32c.h"
#include "cluster/messages.h"

namespace dtrain {
namespace {

constexpr size_t kTensorsAtOnceMax = 8192;  // checksums in one message of the control plane

}  // namespace

Status CompareReplicas(JobChannel& channel, const HostGroup& hosts, const FlatLayout& layout, std::span<const float> parameters, Step step,
                       Deadline deadline) {
  std::vector<uint32_t> sums;
  for (const FlatEntry& entry : layout.entries)
    sums.push_back(Crc32c(std::as_bytes(parameters.subspan(entry.offset, entry.info.elements()))));
  const auto text_of = [](std::span<const uint32_t> part) {
    const auto bytes = std::as_bytes(part);
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  const uint32_t whole = Crc32c(std::as_bytes(std::span(sums)));
  ASSIGN_OR_RETURN(const auto all, channel.AllGather(Cat("replicas ", step), Cat(whole), deadline));
  if (std::ranges::all_of(all, [&](const std::string& other) { return other == all[0]; })) return OkStatus();
  // Every rank knows that somebody differs: now tensor by tensor.
  std::vector<std::string> differences;
  std::vector<bool> named(all.size());
  const size_t at_once = std::min(kTensorsAtOnceMax, kGatheredBytesMax / all.size() / sizeof(uint32_t));
  for (size_t begin = 0; begin < sums.size(); begin += at_once) {
    const auto part = std::span<const uint32_t>(sums).subspan(begin, std::min(at_once, sums.size() - begin));
    ASSIGN_OR_RETURN(const auto parts, channel.AllGather(Cat("replicas ", step, " from ", begin), text_of(part), deadline));
    for (size_t rank = 1; rank < parts.size(); ++rank) {
      for (size_t i = 0; i < part.size() && !named[rank]; ++i) {
        if (parts[rank].size() == parts[0].size() && parts[rank].compare(4 * i, 4, parts[0], 4 * i, 4) == 0) continue;
        named[rank] = true;
        differences.push_back(Cat("rank ", rank, " on ", hosts.host_of[rank], ": ", layout.entries[begin + i].info.name));
      }
    }
  }
  return WithHint(DataLoss("compare the ranks' parameters after step ", step,
                           ": some differ from those of rank 0; the first tensor of each:\n  ", Join(differences, "\n  ")),
                  "look at that host (memory, another build); the newest checkpoint before this step is what to go on from");
}

}  // namespace dtrain
