// Goal: what was answered for is found again after any power cut, and no damage passes for a decision. Method: the power
// fails at every operation of the disk in turn; every byte is flipped in turn; answers are watched at the outbox.
#include "paramserver/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/sim/sim_storage.h"

namespace dtrain::ps {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

constexpr TimePoint kStart = TimePoint(std::chrono::hours(1));

Decision Nth(int64_t n) { return n % 3 == 2 ? Decision(SkipDecision{n}) : Decision(GrantDecision{n, static_cast<int32_t>(n % 4), 3}); }

bool StartsWith(const std::vector<Decision>& all, int64_t first, int64_t count) {
  if (static_cast<int64_t>(all.size()) < count) return false;
  for (size_t i = 0; i < all.size(); ++i) {
    if (!(all[i] == Nth(first + static_cast<int64_t>(i)))) return false;
  }
  return true;
}

TEST(Journal, AfterAPowerCutAtAnyOperationWhatWasSyncedIsThere) {
  int64_t operations = 0;
  for (int64_t crash = 0; crash <= operations; ++crash) {
    SimStorage storage;
    storage.CrashAt(crash);
    int64_t synced = 0, cut = 0, cutting = 0;
    const auto script = [&]() -> Status {
      ASSIGN_OR_RETURN(auto journal, Journal::Open(storage, "runs/job", 7, 1));
      for (int64_t n = 0; n < 9; ++n) {
        RETURN_IF_ERROR(journal->Append(Nth(n)));
        if (n % 2 == 1) {
          RETURN_IF_ERROR(journal->Sync());
          synced = n + 1;
        }
        if (n == 5) {
          cutting = 4;
          RETURN_IF_ERROR(journal->Cut(4));
          cut = 4;
        }
      }
      return OkStatus();
    };
    const Status ended = script();
    if (crash == 0) operations = 40;  // more than there are
    storage.PowerCut(static_cast<uint64_t>(crash));
    storage.CrashAt(INT64_MAX);
    const auto journal = Journal::Open(storage, "runs/job", 7, 1);
    ASSERT_TRUE(journal.ok()) << crash << ": " << journal.status().message();
    const auto& found = (*journal)->decisions();
    const bool old_file = StartsWith(found, 0, synced), new_file = cutting > 0 && StartsWith(found, 4, synced - 4);
    EXPECT_TRUE(cut > 0 ? new_file : old_file || new_file) << "crash at " << crash << ", synced " << synced << ", found " << found.size();
    if (ended.ok()) break;
    ASSERT_LT(crash, 40);
  }
}

TEST(Journal, ATornEndIsDroppedAndWhatFollowsIsAppendedWell) {
  SimStorage storage;
  std::vector<std::byte> whole;
  {
    auto journal = *Journal::Open(storage, "job", 7, 0);
    for (int64_t n = 0; n < 5; ++n) ASSERT_TRUE(journal->Append(Nth(n)).ok());
    whole = storage.Contents("job/journal-0");
  }
  for (size_t bytes = whole.size(); bytes > whole.size() - 60; --bytes) {
    for (const bool zeros : {false, true}) {  // the rest is missing, or zeros
      auto torn = std::vector<std::byte>(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(bytes));
      if (zeros) torn.resize(whole.size());
      storage.SetContents("job/journal-0", torn);
      auto journal = Journal::Open(storage, "job", 7, 0);
      ASSERT_TRUE(journal.ok()) << bytes << ": " << journal.status().message();
      const auto before = (*journal)->decisions().size();
      EXPECT_TRUE(StartsWith((*journal)->decisions(), 0, 0));
      EXPECT_GE(before, 2u);
      ASSERT_TRUE((*journal)->Append(Nth(static_cast<int64_t>(before))).ok());
      EXPECT_TRUE(StartsWith((*Journal::Open(storage, "job", 7, 0))->decisions(), 0, static_cast<int64_t>(before) + 1));
    }
  }
}

TEST(Journal, EveryFlippedByteBeforeTheLastRecordIsAnError) {
  SimStorage storage;
  std::vector<std::byte> whole;
  size_t last_record = 0;
  {
    auto journal = *Journal::Open(storage, "job", 7, 0);
    for (int64_t n = 0; n < 4; ++n) {
      last_record = storage.Contents("job/journal-0").size();
      ASSERT_TRUE(journal->Append(Nth(n)).ok());
    }
    whole = storage.Contents("job/journal-0");
  }
  for (size_t at = 0; at < whole.size(); ++at) {
    for (const int bit : {0, 7}) {
      auto damaged = whole;
      damaged[at] ^= std::byte{static_cast<uint8_t>(1U << bit)};
      storage.SetContents("job/journal-0", damaged);
      const auto journal = Journal::Open(storage, "job", 7, 0);
      if (at < last_record) {
        EXPECT_EQ(journal.status().code(), StatusCode::kDataLoss) << at;
      } else if (journal.ok()) {
        EXPECT_EQ((*journal)->decisions().size(), 3u) << at << ": a damaged record was believed";
      }
    }
  }
}

TEST(Journal, AnotherJobsOrServersIsRefused) {
  SimStorage storage;
  ASSERT_TRUE(Journal::Open(storage, "job", 7, 0).ok());
  EXPECT_EQ(Journal::Open(storage, "job", 8, 0).status().code(), StatusCode::kFailedPrecondition);
  ASSERT_TRUE(Journal::Open(storage, "job", 7, 1).ok());
  storage.SetContents("job/journal-1", storage.Contents("job/journal-0"));
  EXPECT_THAT(dtrain::Message(Journal::Open(storage, "job", 7, 1).status()), HasSubstr("another job or server"));
}

Effects Says(int64_t step, bool decides) {
  Effects effects;
  if (decides) effects.decisions.push_back(SkipDecision{step});
  effects.messages.push_back({0, {{}, Waiting{step}, {}}, 0});
  return effects;
}

std::vector<Step> Steps(const std::vector<Outgoing>& messages) {
  std::vector<Step> steps;
  for (const Outgoing& message : messages) steps.push_back(std::get<Waiting>(message.message.body).step);
  return steps;
}

TEST(Outbox, AnAnswerWaitsUntilWhatItRestsOnIsOnTheDiskAndOrderIsKept) {
  SimStorage storage;
  auto journal = *Journal::Open(storage, "job", 7, 0);
  Outbox outbox(*journal, milliseconds(100));
  ASSERT_TRUE(outbox.Put(Says(0, false), kStart).ok());
  EXPECT_EQ(Steps(*outbox.Take(kStart)), (std::vector<Step>{0}));
  const int64_t before = storage.operations();
  ASSERT_TRUE(outbox.Put(Says(1, true), kStart).ok());
  ASSERT_TRUE(outbox.Put(Says(2, false), kStart + milliseconds(1)).ok());
  ASSERT_TRUE(outbox.Put(Says(3, true), kStart + milliseconds(50)).ok());
  EXPECT_TRUE(outbox.Take(kStart + milliseconds(99))->empty()) << "not even what does not depend on it overtakes";
  EXPECT_EQ(outbox.NextSync(), kStart + milliseconds(100));
  EXPECT_EQ(Steps(*outbox.Take(kStart + milliseconds(100))), (std::vector<Step>{1, 2, 3}));
  EXPECT_EQ(storage.operations() - before, 3) << "two records and one sync for both";
  storage.PowerCut(1);
  EXPECT_EQ((*Journal::Open(storage, "job", 7, 0))->decisions().size(), 2u);
}

TEST(Outbox, ADiskThatFailsKeepsTheAnswerBack) {
  SimStorage storage;
  auto journal = *Journal::Open(storage, "job", 7, 0);
  Outbox outbox(*journal, milliseconds(0));
  storage.FailAt(storage.operations() + 1, ResourceExhausted("disk full"));
  ASSERT_TRUE(outbox.Put(Says(1, true), kStart).ok());
  EXPECT_EQ(outbox.Take(kStart).status().code(), StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace dtrain::ps
