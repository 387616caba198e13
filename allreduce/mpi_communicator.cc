#include "allreduce/mpi_communicator.h"

#include <mpi.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <climits>
#include <cstring>
#include <thread>
#include <vector>

#include "base/check.h"

namespace dtrain {
namespace {

constexpr Duration kHealthPoll = std::chrono::milliseconds(50);
constexpr int64_t kCountMax = INT_MAX;  // of elements in one call of MPI
constexpr int kSpins = 2'000;           // tests before the core is offered to others
constexpr size_t kChunkBytes = size_t{1} << 30;

Status CheckMpi(const char* call, int code) {
  if (code == MPI_SUCCESS) return OkStatus();
  std::array<char, MPI_MAX_ERROR_STRING> text = {};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  return Unavailable(call, ": ", std::string_view(text.data(), static_cast<size_t>(length)));
}

MPI_Datatype TypeOf(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return MPI_DOUBLE;
    case DType::kI64:
      return MPI_INT64_T;
    default:
      return MPI_FLOAT;  // bf16 as well
  }
}

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(MPI_Comm world, const MpiOptions& options, int rank, int size)
      : world_(world), options_(options), rank_(rank), size_(size) {}
  // Not freed: that is collective, and the others may be gone.

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  Status Barrier(Deadline deadline) override {
    return Run("MPI_Ibarrier", deadline, [&](MPI_Request* request) { return MPI_Ibarrier(world_, request); });
  }

  Status Broadcast(std::span<std::byte> data, int root, Deadline deadline) override {
    DTRAIN_CHECK(root >= 0 && root < size_);
    for (size_t begin = 0; begin < data.size(); begin += kChunkBytes) {
      const auto part = data.subspan(begin, std::min(kChunkBytes, data.size() - begin));
      RETURN_IF_ERROR(Run("MPI_Ibcast", deadline, [&](MPI_Request* request) {
        return MPI_Ibcast(part.data(), static_cast<int>(part.size()), MPI_BYTE, root, world_, request);
      }));
    }
    return OkStatus();
  }

  Status AllGatherParts(std::span<const std::byte> mine, std::span<const std::span<std::byte>> parts, Deadline deadline) override {
    DTRAIN_CHECK(parts.size() == static_cast<size_t>(size_) && parts[rank_].size() == mine.size());
    size_t total = 0;
    for (const auto& part : parts) total += part.size();
    if (total > static_cast<size_t>(kCountMax)) return TooMuch("gather", total);
    std::vector<int> counts, places;
    int place = 0;
    for (const auto& part : parts) {
      counts.push_back(static_cast<int>(part.size()));
      places.push_back(place);
      place += counts.back();
    }
    gathered_.resize(total);
    RETURN_IF_ERROR(Run("MPI_Iallgatherv", deadline, [&](MPI_Request* request) {
      return MPI_Iallgatherv(mine.data(), static_cast<int>(mine.size()), MPI_BYTE, gathered_.data(), counts.data(), places.data(), MPI_BYTE,
                             world_, request);
    }));
    for (size_t i = 0; i < parts.size(); ++i) {
      if (!parts[i].empty()) std::memcpy(parts[i].data(), gathered_.data() + places[i], parts[i].size());
    }
    return OkStatus();
  }

  Status AllToAll(std::span<const std::span<const std::byte>> to, std::span<const std::span<std::byte>> from, Deadline deadline) override {
    DTRAIN_CHECK(to.size() == static_cast<size_t>(size_) && from.size() == static_cast<size_t>(size_));
    const auto describe = [&](const auto& spans, std::vector<int>& counts, std::vector<int>& places, std::vector<std::byte>& packed,
                              bool copy) {
      size_t total = 0;
      for (const auto& span : spans) total += span.size();
      if (total > static_cast<size_t>(kCountMax)) return TooMuch("exchange", total);
      packed.resize(total);
      int place = 0;
      for (const auto& span : spans) {
        counts.push_back(static_cast<int>(span.size()));
        places.push_back(place);
        if (copy && !span.empty()) std::memcpy(packed.data() + place, span.data(), span.size());
        place += counts.back();
      }
      return OkStatus();
    };
    std::vector<int> to_counts, to_places, from_counts, from_places;
    RETURN_IF_ERROR(describe(to, to_counts, to_places, sent_, true));
    RETURN_IF_ERROR(describe(from, from_counts, from_places, gathered_, false));
    RETURN_IF_ERROR(Run("MPI_Ialltoallv", deadline, [&](MPI_Request* request) {
      return MPI_Ialltoallv(sent_.data(), to_counts.data(), to_places.data(), MPI_BYTE, gathered_.data(), from_counts.data(),
                            from_places.data(), MPI_BYTE, world_, request);
    }));
    for (size_t i = 0; i < from.size(); ++i) {
      if (!from[i].empty()) std::memcpy(from[i].data(), gathered_.data() + from_places[i], from[i].size());
    }
    return OkStatus();
  }

  Status AllReduce(Elements data, Deadline deadline) override {
    RETURN_IF_ERROR(CheckSummable(data));
    if (data.dtype == DType::kBF16) {
      std::vector<float> wide(data.count());
      Widen(data.dtype, data.bytes.data(), data.count(), reinterpret_cast<std::byte*>(wide.data()));
      RETURN_IF_ERROR(AllReduce(std::span<float>(wide), deadline));
      Narrow(data.dtype, reinterpret_cast<const std::byte*>(wide.data()), data.count(), data.bytes.data());
      return OkStatus();
    }
    const int64_t bytes = ElementBytes(data.dtype);
    for (int64_t begin = 0; begin < data.count(); begin += kCountMax) {
      const int64_t count = std::min(kCountMax, data.count() - begin);
      RETURN_IF_ERROR(Run("MPI_Iallreduce", deadline, [&](MPI_Request* request) {
        return MPI_Iallreduce(MPI_IN_PLACE, data.bytes.data() + begin * bytes, static_cast<int>(count), TypeOf(data.dtype), MPI_SUM, world_,
                              request);
      }));
    }
    return OkStatus();
  }

  Status ReduceScatter(ConstElements data, Elements slice, Deadline deadline) override {
    RETURN_IF_ERROR(CheckSummable(data));
    DTRAIN_CHECK(slice.dtype == data.dtype && slice.count() == SliceOf(data.count(), rank_, size_).size());
    if (data.count() > kCountMax) return TooMuch("reduce", data.bytes.size());
    std::vector<int> counts;
    for (int rank = 0; rank < size_; ++rank) counts.push_back(static_cast<int>(SliceOf(data.count(), rank, size_).size()));
    std::vector<float> wide, narrow;
    const void* from = data.bytes.data();
    if (data.dtype == DType::kBF16) {
      wide.resize(data.count());
      Widen(data.dtype, data.bytes.data(), data.count(), reinterpret_cast<std::byte*>(wide.data()));
      from = wide.data();
    }
    // MPI forbids that the result lies in the data.
    gathered_.resize(slice.count() * ElementBytes(AccumulatorOf(data.dtype)));
    RETURN_IF_ERROR(Run("MPI_Ireduce_scatter", deadline, [&](MPI_Request* request) {
      return MPI_Ireduce_scatter(from, gathered_.data(), counts.data(), TypeOf(data.dtype), MPI_SUM, world_, request);
    }));
    if (data.dtype == DType::kBF16) {
      Narrow(data.dtype, gathered_.data(), slice.count(), slice.bytes.data());
    } else if (!slice.bytes.empty()) {
      std::memcpy(slice.bytes.data(), gathered_.data(), slice.bytes.size());
    }
    return OkStatus();
  }

  void Abort() override { aborted_ = true; }

 private:
  static Status TooMuch(const char* what, size_t bytes) {
    return InvalidArgument("MPI cannot ", what, " ", bytes, " bytes in one call; expected at most ", kCountMax, "; lower strategy.bucket");
  }

  // Starts an operation and tests it until it is done. After any error nothing works any more.
  template <typename Start>
  Status Run(const char* call, Deadline deadline, const Start& start) {
    RETURN_IF_ERROR(ended_);
    const Status status = RunToItsEnd(call, deadline, start);
    if (!status.ok()) ended_ = status;
    return status;
  }

  template <typename Start>
  Status RunToItsEnd(const char* call, Deadline deadline, const Start& start) {
    MPI_Request request = MPI_REQUEST_NULL;
    RETURN_IF_ERROR(CheckMpi(call, start(&request)));
    TimePoint look = SystemClock().Now() + kHealthPoll;
    for (int spin = 0;; ++spin) {
      int done = 0;
      RETURN_IF_ERROR(CheckMpi(call, MPI_Test(&request, &done, MPI_STATUS_IGNORE)));
      if (done != 0) return OkStatus();
      if (aborted_) return Unavailable(call, ": rank ", rank_, " was aborted");
      if (spin < kSpins) continue;
      std::this_thread::yield();
      const TimePoint now = SystemClock().Now();
      if (now < look) continue;
      look = now + kHealthPoll;
      RETURN_IF_ERROR(options_.health());
      if (deadline.Passed()) return DeadlineExceeded(call, ": not all ranks came in time");
    }
  }

  const MPI_Comm world_;
  const MpiOptions options_;
  const int rank_, size_;
  std::atomic<bool> aborted_ = false;
  Status ended_;
  std::vector<std::byte> sent_, gathered_;  // kept between calls
};

}  // namespace

StatusOr<std::unique_ptr<Communicator>> OpenMpiCommunicator(const MpiOptions& options, Deadline deadline) {
  int in_use = 0, over = 0, level = 0;
  MPI_Initialized(&in_use);
  MPI_Finalized(&over);
  if (in_use == 0 || over != 0) return FailedPrecondition("open a communicator over MPI: MPI is not in use in this process");
  RETURN_IF_ERROR(CheckMpi("MPI_Query_thread", MPI_Query_thread(&level)));
  if (level < MPI_THREAD_SERIALIZED) {
    return FailedPrecondition("open a communicator over MPI: it allows its main thread alone; expected MPI_THREAD_SERIALIZED");
  }
  int rank = 0, size = 1;
  RETURN_IF_ERROR(CheckMpi("MPI_Comm_rank", MPI_Comm_rank(MPI_COMM_WORLD, &rank)));
  RETURN_IF_ERROR(CheckMpi("MPI_Comm_size", MPI_Comm_size(MPI_COMM_WORLD, &size)));
  // What goes on here never meets the messages of others.
  MPI_Comm world = MPI_COMM_NULL;
  MPI_Request request = MPI_REQUEST_NULL;
  RETURN_IF_ERROR(CheckMpi("MPI_Comm_idup", MPI_Comm_idup(MPI_COMM_WORLD, &world, &request)));
  for (int done = 0; done == 0;) {
    RETURN_IF_ERROR(CheckMpi("MPI_Comm_idup", MPI_Test(&request, &done, MPI_STATUS_IGNORE)));
    if (done != 0) break;
    RETURN_IF_ERROR(options.health());
    if (deadline.Passed()) return DeadlineExceeded("open a communicator over MPI: not all ranks came in time");
    std::this_thread::yield();
  }
  RETURN_IF_ERROR(CheckMpi("MPI_Comm_set_errhandler", MPI_Comm_set_errhandler(world, MPI_ERRORS_RETURN)));
  return std::unique_ptr<Communicator>(std::make_unique<MpiCommunicator>(world, options, rank, size));
}

void FinalizeMpi() {
  int in_use = 0, over = 0;
  MPI_Initialized(&in_use);
  MPI_Finalized(&over);
  if (in_use != 0 && over == 0) MPI_Finalize();
}

}  // namespace dtrain
