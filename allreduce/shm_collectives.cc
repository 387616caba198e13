// The collectives of ShmCommunicator: data goes through the windows, a window's worth at a time, one meeting before it is
// read. Data of no bytes still meets once, so that a rank with other data is noticed.
#include <algorithm>
#include <cstring>
#include <vector>

#include "allreduce/shm_calls.h"
#include "allreduce/shm_communicator.h"
#include "base/check.h"
#include "base/crc32c.h"

namespace dtrain {
namespace {

using shm_internal::Call;
using shm_internal::Errand;
using shm_internal::kRanksMax;
using shm_internal::kWindowBytes;

// A sum of fewer bytes is taken by every rank for itself: a second meeting would cost more than it saves. Two ranks never
// save: what a rank does not read of the other's numbers it reads of the other's sums.
constexpr size_t kSharedSumBytesMin = 16 << 10;
constexpr int64_t kInRegionsTile = 16 << 10;  // bytes, summed and handed to all while they are in the first-level cache

void Copy(std::byte* to, const std::byte* from, size_t bytes) {
  if (bytes > 0 && to != from) std::memmove(to, from, bytes);
}

// The piece of `of` that begins at `done`, `piece` bytes at most.
template <typename Byte>
std::span<Byte> Piece(std::span<Byte> of, size_t done, size_t piece) {
  return done >= of.size() ? std::span<Byte>() : of.subspan(done, std::min(piece, of.size() - done));
}

}  // namespace

namespace shm_internal {

std::string Describe(uint64_t errand) {
  constexpr const char* kNames[] = {"Barrier",  "Broadcast", "AllGather",     "AllGather of unequal parts",
                                    "AllToAll", "AllReduce", "ReduceScatter", "AllReduceInRegions"};
  constexpr const char* kTypes[] = {"floats", "doubles", "bf16", "?", "int64"};
  const uint64_t number = errand >> 56, detail = errand >> 48 & 0xff, bytes = errand & ((uint64_t{1} << 48) - 1);
  if (number >= std::size(kNames)) return "an unknown call";
  const auto call = static_cast<Call>(number);
  if (call == Call::kAllGatherParts) return Cat(kNames[number], ", their sizes' checksum is ", bytes);
  const bool sum = call >= Call::kAllReduce;
  return Cat(kNames[number], sum ? " of " : "", sum ? kTypes[std::min<size_t>(detail, std::size(kTypes) - 1)] : "", " with ", bytes,
             " bytes to go", call == Call::kBroadcast ? Cat(" from rank ", detail) : "");
}

}  // namespace shm_internal

Status ShmCommunicator::Broadcast(std::span<std::byte> data, int root, Deadline deadline) {
  DTRAIN_CHECK(root >= 0 && root < options_.size);
  size_t done = 0;
  do {
    const auto chunk = Piece(data, done, kWindowBytes);
    if (options_.rank == root) Copy(next_window(root), chunk.data(), chunk.size());
    RETURN_IF_ERROR(Meet(Errand(Call::kBroadcast, static_cast<uint8_t>(root), data.size() - done), deadline));
    if (options_.rank != root) Copy(chunk.data(), met_window(root), chunk.size());
    done += chunk.size();
  } while (done < data.size());
  return OkStatus();
}

Status ShmCommunicator::AllGatherParts(std::span<const std::byte> mine, std::span<const std::span<std::byte>> parts, Deadline deadline) {
  DTRAIN_CHECK(parts.size() == static_cast<size_t>(options_.size) && parts[options_.rank].size() == mine.size());
  std::vector<uint64_t> sizes;
  for (const auto& part : parts) sizes.push_back(part.size());
  const size_t longest = std::ranges::max(sizes);
  const bool equal = std::ranges::min(sizes) == longest;
  const uint64_t fingerprint = Crc32c(std::as_bytes(std::span(sizes)));
  size_t done = 0;
  do {
    const auto chunk = Piece(mine, done, kWindowBytes);
    Copy(next_window(options_.rank), chunk.data(), chunk.size());
    RETURN_IF_ERROR(Meet(equal ? Errand(Call::kAllGather, uint8_t{0}, longest - done)
                               : Errand(Call::kAllGatherParts, static_cast<uint8_t>(done / kWindowBytes), fingerprint),
                         deadline));
    for (int rank = 0; rank < options_.size; ++rank) {
      const auto to = Piece(parts[rank], done, kWindowBytes);
      Copy(to.data(), rank == options_.rank ? chunk.data() : met_window(rank), to.size());
    }
    done += kWindowBytes;
  } while (done < longest);
  return OkStatus();
}

Status ShmCommunicator::AllToAll(std::span<const std::span<const std::byte>> to, std::span<const std::span<std::byte>> from,
                                 Deadline deadline) {
  const auto ranks = static_cast<size_t>(options_.size);
  DTRAIN_CHECK(to.size() == ranks && from.size() == ranks);
  // First everyone tells what it sends to whom, so that all agree on the number of meetings.
  uint64_t sizes[kRanksMax];
  for (size_t rank = 0; rank < ranks; ++rank) sizes[rank] = to[rank].size();
  std::memcpy(next_window(options_.rank), sizes, ranks * sizeof(uint64_t));
  RETURN_IF_ERROR(Meet(Errand(Call::kAllToAll, uint8_t{0}, 0), deadline));
  uint64_t longest = 0;
  Status status;
  for (int rank = 0; rank < options_.size; ++rank) {
    std::memcpy(sizes, met_window(rank), ranks * sizeof(uint64_t));
    longest = std::max(longest, *std::max_element(sizes, sizes + ranks));
    if (status.ok() && sizes[options_.rank] != from[rank].size()) {
      status = InvalidArgument("AllToAll: rank ", rank, " sends ", sizes[options_.rank], " bytes to rank ", options_.rank,
                               ", which expected ", from[rank].size());
    }
  }
  if (!status.ok()) {
    Abort();
    return status;
  }
  const size_t piece = kWindowBytes / ranks / 64 * 64;
  for (size_t done = 0; done < longest; done += piece) {
    for (size_t rank = 0; rank < ranks; ++rank) {
      const auto chunk = Piece(to[rank], done, piece);
      Copy(next_window(options_.rank) + rank * piece, chunk.data(), chunk.size());
    }
    RETURN_IF_ERROR(Meet(Errand(Call::kAllToAll, uint8_t{1}, longest - done), deadline));
    for (int rank = 0; rank < options_.size; ++rank) {
      const auto chunk = Piece(from[rank], done, piece);
      Copy(chunk.data(), met_window(rank) + options_.rank * piece, chunk.size());
    }
  }
  return OkStatus();
}

Status ShmCommunicator::AllReduce(Elements data, Deadline deadline) {
  RETURN_IF_ERROR(CheckSummable(data));
  const int64_t element_bytes = ElementBytes(data.dtype);
  const bool all_fit = data.bytes.size() < kSharedSumBytesMin;
  std::vector<const std::byte*> operands(options_.size);
  size_t done = 0;
  do {
    const auto chunk = Piece(data.bytes, done, kWindowBytes);
    const uint64_t errand = Errand(Call::kAllReduce, data.dtype, data.bytes.size() - done);
    Copy(next_window(options_.rank), chunk.data(), chunk.size());
    RETURN_IF_ERROR(Meet(errand, deadline));
    const int64_t count = static_cast<int64_t>(chunk.size()) / element_bytes;
    if (options_.size <= 2 || all_fit) {
      for (int rank = 0; rank < options_.size; ++rank) operands[rank] = met_window(rank);
      SumInOrder(data.dtype, operands, count, chunk.data());
    } else {
      const ElementRange slice = SliceOf(count, options_.rank, options_.size);
      for (int rank = 0; rank < options_.size; ++rank) operands[rank] = met_window(rank) + slice.begin * element_bytes;
      SumInOrder(data.dtype, operands, slice.size(), next_window(options_.rank) + slice.begin * element_bytes);
      RETURN_IF_ERROR(Meet(errand, deadline));
      for (int rank = 0; rank < options_.size; ++rank) {
        const ElementRange sums = SliceOf(count, rank, options_.size);
        const auto begin = sums.begin * element_bytes;
        Copy(chunk.data() + begin, met_window(rank) + begin, sums.size() * element_bytes);
      }
    }
    done += chunk.size();
  } while (done < data.bytes.size());
  return OkStatus();
}

Status ShmCommunicator::ReduceScatter(ConstElements data, Elements slice, Deadline deadline) {
  RETURN_IF_ERROR(CheckSummable(data));
  RETURN_IF_ERROR(CheckSummable(slice));
  const int64_t element_bytes = ElementBytes(data.dtype), count = data.count();
  DTRAIN_CHECK(slice.dtype == data.dtype && slice.count() == SliceOf(count, options_.rank, options_.size).size());
  const int64_t piece = kWindowBytes / options_.size / 64 * 64 / element_bytes;  // elements of one rank's slice in a window
  const int64_t longest = SliceOf(count, 0, options_.size).size();
  std::vector<const std::byte*> operands(options_.size);
  int64_t done = 0;
  do {
    for (int rank = 0; rank < options_.size; ++rank) {
      const ElementRange of_rank = SliceOf(count, rank, options_.size);
      const int64_t elements = std::clamp<int64_t>(of_rank.size() - done, 0, piece);
      Copy(next_window(options_.rank) + rank * piece * element_bytes, data.bytes.data() + (of_rank.begin + done) * element_bytes,
           elements * element_bytes);
    }
    RETURN_IF_ERROR(Meet(Errand(Call::kReduceScatter, data.dtype, data.bytes.size()), deadline));
    for (int rank = 0; rank < options_.size; ++rank) operands[rank] = met_window(rank) + options_.rank * piece * element_bytes;
    const int64_t elements = std::clamp<int64_t>(slice.count() - done, 0, piece);
    SumInOrder(data.dtype, operands, elements, slice.bytes.data() + (elements > 0 ? done * element_bytes : 0));
    done += piece;
  } while (done < longest);
  return OkStatus();
}

Status ShmCommunicator::AllReduceInRegions(DType dtype, int64_t offset, int64_t bytes, Deadline deadline) {
  DTRAIN_CHECK(offset >= 0 && bytes >= 0 && offset <= options_.rank_region_bytes && bytes <= options_.rank_region_bytes - offset);
  RETURN_IF_ERROR(CheckSummable({dtype, rank_region(options_.rank).subspan(offset, bytes)}));
  const int64_t element_bytes = ElementBytes(dtype);
  RETURN_IF_ERROR(Meet(Errand(Call::kAllReduceInRegions, dtype, bytes), deadline));
  const ElementRange slice = SliceOf(bytes / element_bytes, options_.rank, options_.size);
  std::vector<const std::byte*> operands(options_.size);
  const int64_t tile = kInRegionsTile / element_bytes;
  for (int64_t begin = slice.begin; begin < slice.end; begin += tile) {
    const int64_t elements = std::min(tile, slice.end - begin), at = offset + begin * element_bytes;
    for (int rank = 0; rank < options_.size; ++rank) operands[rank] = rank_region(rank).data() + at;
    std::byte* sum = rank_region(options_.rank).data() + at;
    SumInOrder(dtype, operands, elements, sum);
    for (int rank = 0; rank < options_.size; ++rank) Copy(rank_region(rank).data() + at, sum, elements * element_bytes);
  }
  return Meet(Errand(Call::kAllReduceInRegions, dtype, 0), deadline);
}

}  // namespace dtrain
