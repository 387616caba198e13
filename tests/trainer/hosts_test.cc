// Goal: ranks that nobody of ours started find each other and train as those of -n do: by --rendezvous, under mpirun, and as
// srun would start them. Method: real processes on this host; the same parameter hash as one process is the oracle. Several
// hosts: hosts_test.sh.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/trainer/program.h"

namespace dtrain {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class Hosts : public ProgramTest {
 protected:
  static std::vector<std::string> Words(const std::string& name, std::vector<std::string> more) {
    more.insert(more.begin(), {"train", std::string(kConfigs) + "/quickstart.yaml", "train.duration=3ep", "run.name=" + name});
    return more;
  }
  // Rank `rank` of `world` at `port`.
  pid_t StartRank(const std::string& name, int port, int rank, int world, std::vector<std::string> more = {}) {
    for (const auto& word : {std::string("--rendezvous"), "127.0.0.1:" + std::to_string(port), std::string("--rank"), std::to_string(rank),
                             std::string("--world"), std::to_string(world)}) {
      more.push_back(word);
    }
    return Start(Words(name, more), DTRAIN_PROGRAM, "r" + std::to_string(rank));
  }
  Outcome WaitRank(pid_t pid, int rank) { return Wait(pid, "r" + std::to_string(rank)); }
  // Free when it was asked for.
  static int Port() { return 20'000 + getpid() % 10'000; }
};

TEST_F(Hosts, RanksStartedByHandTrainAsOneProcessDoes) {
  const std::string expected = Hash("whole", 1, {"train.duration=3ep"});
  for (const std::string backend : {"auto", "tcp"}) {
    std::vector<pid_t> pids;
    for (const int rank : {2, 0, 1}) pids.push_back(StartRank(backend, Port(), rank, 3, {"strategy.backend=" + backend}));
    for (size_t i = 0; i < pids.size(); ++i) {
      const Outcome outcome = WaitRank(pids[i], std::vector{2, 0, 1}[i]);
      EXPECT_EQ(outcome.code, 0) << outcome.out << outcome.err;
    }
    EXPECT_EQ(Result(backend)["parameter_hash"], expected) << backend;
    EXPECT_EQ(Result(backend)["world_size"], 3);
    EXPECT_THAT(ReadFile(folder_ / "r0out.txt"), HasSubstr(backend == "tcp" ? "ring over TCP, 3 ranks" : "shared memory, 3 ranks"));
    EXPECT_EQ(ReadFile(folder_ / "r1out.txt"), "");  // one rank speaks
  }
  // Again: it is finished, and every rank is told so.
  std::vector<pid_t> pids;
  for (const int rank : {0, 1, 2}) pids.push_back(StartRank("tcp", Port(), rank, 3, {"strategy.backend=tcp"}));
  for (int rank = 0; rank < 3; ++rank) EXPECT_EQ(WaitRank(pids[rank], rank).code, 0);
  EXPECT_THAT(ReadFile(folder_ / "r0out.txt"), HasSubstr("finished already"));
}

TEST_F(Hosts, RanksThatWouldNotComputeTheSameAreNamedBeforeTheFirstStep) {
  const pid_t other = StartRank("a", Port(), 1, 2, {"optim.lr=0.2"});
  const pid_t first = StartRank("a", Port(), 0, 2);
  const Outcome refused = WaitRank(first, 0), too = WaitRank(other, 1);
  EXPECT_EQ(refused.code, 4);
  EXPECT_EQ(too.code, 4);
  for (const Outcome& outcome : {refused, too}) {
    EXPECT_THAT(outcome.out + outcome.err, AllOf(HasSubstr("rank 1 on "), HasSubstr("optim.lr is 0.2, on rank 0 0.05")));
  }
  EXPECT_EQ(Result("a")["status"], "failed");
}

TEST_F(Hosts, ADeadRankEndsTheJobOfTheOthers) {
  const auto endless = std::vector<std::string>{"train.duration=10000ep", "checkpoint.every=50st", "strategy.backend=tcp"};
  const pid_t first = StartRank("a", Port(), 0, 2, endless), other = StartRank("a", Port(), 1, 2, endless);
  ASSERT_TRUE(WaitForCheckpoint("a", 100));
  kill(other, SIGKILL);
  WaitRank(other, 1);
  const Outcome outcome = WaitRank(first, 0);
  EXPECT_EQ(outcome.code, 5);
  EXPECT_THAT(outcome.out + outcome.err, HasSubstr("rank 1"));
  EXPECT_EQ(Result("a")["exit_code"], 5);
  // And the run goes on from its checkpoint, on one process.
  EXPECT_EQ(Run(Words("a", {"train.duration=2ep"})).code, 0);
}

TEST_F(Hosts, ASignalToAnyRankSavesAndStopsAll) {
  const pid_t first = StartRank("a", Port(), 0, 2, {"train.duration=10000ep"}),
              other = StartRank("a", Port(), 1, 2, {"train.duration=10000ep"});
  ASSERT_TRUE(WaitForCheckpoint("a", 51));
  kill(other, SIGTERM);
  EXPECT_EQ(WaitRank(first, 0).code, 75);
  EXPECT_EQ(WaitRank(other, 1).code, 75);
  EXPECT_EQ(Result("a")["status"], "stopped");
}

TEST_F(Hosts, WhatContradictsItselfIsRefusedAtOnce) {
  const auto refused = [&](std::vector<std::string> more) {
    const Outcome outcome = Run(Words("a", std::move(more)));
    EXPECT_EQ(outcome.code, 2) << outcome.out << outcome.err;
    return outcome.err;
  };
  EXPECT_THAT(refused({"--rank", "1"}), HasSubstr("--rendezvous"));
  EXPECT_THAT(refused({"--rendezvous", "127.0.0.1:1"}), HasSubstr("--rank and --world"));
  EXPECT_THAT(refused({"--rendezvous", "127.0.0.1:1", "--rank", "2", "--world", "2"}), HasSubstr("rank"));
  EXPECT_THAT(refused({"--rendezvous", "nonsense", "--rank", "0", "--world", "2"}), HasSubstr("nonsense"));
  EXPECT_THAT(refused({"--rendezvous", "192.0.2.7:2000", "--rank", "1", "--world", "2"}), HasSubstr("DTRAIN_TOKEN"));
  EXPECT_THAT(refused({"-n", "2", "--rendezvous", "127.0.0.1:1", "--rank", "0", "--world", "2"}), HasSubstr("one of them"));
}

TEST_F(Hosts, MpirunNeedsNoOtherFlag) {
  if (!DTRAIN_HAS_MPI) GTEST_SKIP() << "no MPI: this was built without it";
  const std::string expected = Hash("whole", 1, {"train.duration=3ep"});
  auto words = Words("mpi", {});
  words.insert(words.begin(), {"--allow-run-as-root", "--oversubscribe", "-n", "3", DTRAIN_PROGRAM});
  const Outcome outcome = Run(words, DTRAIN_MPIRUN);
  EXPECT_EQ(outcome.code, 0) << outcome.out << outcome.err;
  EXPECT_EQ(Result("mpi")["parameter_hash"], expected);
  EXPECT_EQ(Result("mpi")["world_size"], 3);
  auto by_mpi = words;
  by_mpi.back() = "run.name=by-mpi";
  by_mpi.insert(by_mpi.end(), {"strategy.backend=mpi", "strategy.bucket=64kB", "model.hidden=[128, 64]"});
  const Outcome carried = Run(by_mpi, DTRAIN_MPIRUN);
  EXPECT_EQ(carried.code, 0) << carried.out << carried.err;
  EXPECT_EQ(Result("by-mpi")["parameter_hash"], Hash("wide", 1, {"train.duration=3ep", "model.hidden=[128, 64]"}));
  EXPECT_THAT(carried.out, HasSubstr("all-reduce by MPI, 3 ranks"));
  const Outcome none = Run(Words("none", {"-n", "2", "strategy.backend=mpi"}));
  EXPECT_EQ(none.code, 3);
  EXPECT_THAT(none.out + none.err, HasSubstr("not started by mpirun"));
  words.insert(words.end(), {"-n", "2"});
  const Outcome twice = Run(words, DTRAIN_MPIRUN);
  EXPECT_NE(twice.code, 0);
  EXPECT_THAT(twice.err + twice.out, HasSubstr("expected no -n"));
}

// mpirun kills what still runs soon after a rank has ended with another code than 0: the ranks end together.
TEST_F(Hosts, AStopUnderMpirunSavesEverything) {
  if (!DTRAIN_HAS_MPI) GTEST_SKIP() << "no MPI: this was built without it";
  auto words = Words("mpi", {"train.duration=10000ep"});
  words.insert(words.begin(), {"--allow-run-as-root", "--oversubscribe", "-n", "2", DTRAIN_PROGRAM});
  const pid_t pid = Start(words, DTRAIN_MPIRUN, "m");
  ASSERT_TRUE(WaitForCheckpoint("mpi", 51));
  EXPECT_EQ(Run({"stop", "mpi"}).code, 0);
  const Outcome stopped = Wait(pid, "m");
  EXPECT_EQ(stopped.code, 75) << stopped.out << stopped.err;
  EXPECT_EQ(Result("mpi")["status"], "stopped");
  EXPECT_EQ(Result("mpi")["exit_code"], 75);
  EXPECT_TRUE(fs::exists(folder_ / "runs/mpi/checkpoints" / fs::path(Result("mpi")["checkpoints"]["last"].get<std::string>()).filename()));
}

// On hosts that share no disk a file of one name may hold two things: here the ranks run in two folders.
TEST_F(Hosts, RanksThatStartFromOtherFilesAreNamed) {
  fs::create_directories(folder_ / "b");
  const auto make = [&](const std::string& seed, const std::string& file) {
    const auto words =
        Words("seed" + seed, {"train.duration=10st", "optim.schedule.type=constant", "optim.schedule.warmup=0st", "run.seed=" + seed});
    ASSERT_EQ(Run(words).code, 0);
    ASSERT_EQ(Run({"export", "seed" + seed, "--output", file}).code, 0);
  };
  make("1", "start.safetensors");
  make("2", "b/start.safetensors");
  for (const bool same : {false, true}) {
    if (same) fs::copy_file(folder_ / "start.safetensors", folder_ / "b/start.safetensors", fs::copy_options::overwrite_existing);
    std::vector<pid_t> pids;
    for (int rank = 0; rank < 2; ++rank) {
      auto words = Words("a", {"strategy.backend=tcp", "--init-from", "start.safetensors", "--fresh", "--rendezvous",
                               "127.0.0.1:" + std::to_string(Port()), "--rank", std::to_string(rank), "--world", "2"});
      words.insert(words.begin(), {"-C", rank == 0 ? "." : "b", "DTRAIN_TOKEN=0123456789abcdef0123456789abcdef", DTRAIN_PROGRAM});
      pids.push_back(Start(words, "/usr/bin/env", "r" + std::to_string(rank)));
    }
    for (int rank = 0; rank < 2; ++rank) {
      const Outcome outcome = WaitRank(pids[rank], rank);
      EXPECT_EQ(outcome.code, same ? 0 : 4) << outcome.out << outcome.err;
      EXPECT_EQ((outcome.out + outcome.err).find("what the ranks start from") == std::string::npos, same);
    }
  }
}

// As srun does, by the variables that it documents.
TEST_F(Hosts, SrunIsTakenByItsVariables) {
  const std::string expected = Hash("whole", 1, {"train.duration=3ep"});
  std::vector<pid_t> pids;
  for (int rank = 0; rank < 2; ++rank) {
    std::vector<std::string> words = Words("slurm", {});
    words.insert(words.begin(),
                 {"SLURM_PROCID=" + std::to_string(rank), "SLURM_NTASKS=2", "SLURM_LOCALID=" + std::to_string(rank),
                  "SLURM_STEP_TASKS_PER_NODE=2", "SLURM_STEP_NUM_TASKS=2", "SLURM_NODEID=0", "SLURM_STEP_NUM_NODES=1",
                  "SLURM_STEP_NODELIST=localhost", "SLURM_JOB_ID=" + std::to_string(getpid()), "SLURM_STEP_ID=0", DTRAIN_PROGRAM});
    pids.push_back(Start(words, "/usr/bin/env", "r" + std::to_string(rank)));
  }
  for (int rank = 0; rank < 2; ++rank) {
    const Outcome outcome = WaitRank(pids[rank], rank);
    EXPECT_EQ(outcome.code, 0) << outcome.out << outcome.err;
  }
  EXPECT_EQ(Result("slurm")["parameter_hash"], expected);
}

}  // namespace
}  // namespace dtrain
