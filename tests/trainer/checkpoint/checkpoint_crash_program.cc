// A program to kill: saves checkpoints through the machine's own files, or looks at what a crash left behind.
//   checkpoint_crash_program save RUN FIRST LAST KILOBYTES [no-sync]   prints "saved N" once N must survive everything
//   checkpoint_crash_program check RUN                                  prints "newest N", or fails if anything is torn
#include <cstdio>
#include <string>

#include "base/log.h"
#include "tests/sim/hooked_storage.h"
#include "tests/trainer/checkpoint/sample_checkpoint.h"
#include "trainer/storage/posix_storage.h"

namespace dtrain {
namespace {

int Save(const std::string& run, Step first, Step last, int64_t kilobytes, bool sync) {
  HookedStorage storage(PosixStorage(), [sync](StorageOperation operation, const std::string&) {
    return sync || (operation != StorageOperation::kSyncFile && operation != StorageOperation::kSyncDirectory);
  });
  CheckpointStore store(storage, run, {.keep_last = 2});
  for (Step step = first; step <= last; ++step) {
    const Checkpoint checkpoint = LargeCheckpoint(step, kilobytes);
    if (const Status status = store.Save(checkpoint); !status.ok()) {
      std::fprintf(stderr, "%s\n", Message(status).c_str());
      return 1;
    }
    std::printf("saved %lld\n", static_cast<long long>(step));
    std::fflush(stdout);
  }
  return 0;
}

int Check(const std::string& run) {
  const CheckpointStore store(PosixStorage(), run, {});
  const auto newest = store.LoadNewest();
  if (!newest.ok()) {
    std::fprintf(stderr, "%s\n", Message(newest.status()).c_str());
    return 1;
  }
  if (!newest->has_value()) {
    std::printf("newest none\n");
    return 0;
  }
  const Checkpoint& found = **newest;
  const auto kilobytes = static_cast<int64_t>(found.model.back().bytes.size() / 1024);
  if (Describe(found) != Describe(LargeCheckpoint(found.step, kilobytes))) {
    std::fprintf(stderr, "the checkpoint of step %lld is another one than was saved\n", static_cast<long long>(found.step));
    return 1;
  }
  const auto all = store.List();
  if (!all.ok()) return 1;
  for (const CheckpointInfo& info : *all) {
    if (info.complete()) continue;
    std::fprintf(stderr, "%s is torn: %s\n", info.path.c_str(), info.damage.c_str());
    return 1;
  }
  std::printf("newest %lld\n", static_cast<long long>(found.step));
  return 0;
}

int Main(int argc, char** argv) {
  SetLogSink([](LogLevel, std::string_view message) { std::fprintf(stderr, "%.*s\n", static_cast<int>(message.size()), message.data()); });
  const auto number = [argv](int at) { return ParseInt(argv[at]).value_or(-1); };
  if (argc >= 6 && std::string(argv[1]) == "save") {
    return Save(argv[2], number(3), number(4), number(5), argc < 7 || std::string(argv[6]) != "no-sync");
  }
  if (argc == 3 && std::string(argv[1]) == "check") return Check(argv[2]);
  std::fprintf(stderr, "usage: checkpoint_crash_program save RUN FIRST LAST KILOBYTES [no-sync] | check RUN\n");
  return 2;
}

}  // namespace
}  // namespace dtrain

int main(int argc, char** argv) { return dtrain::Main(argc, argv); }
