// Goal: a process knows who started it, or hears which two variables contradict each other. Method: environments made by hand
// after what Open MPI 4.1, MPICH's Hydra and Slurm 22.05 set; node lists from Slurm's own manual pages (slurm_hostlist_create(3),
// Slurm::Hostlist(3pm), slurm.conf(5), sbatch(1)), expanded by a second, simple-minded way.
#include "cluster/launcher_environment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

namespace dtrain {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using Variables = std::map<std::string, std::string>;

StatusOr<std::optional<LauncherEnvironment>> Read(const Variables& variables) {
  return ReadLauncherEnvironment([&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}
LauncherEnvironment Found(const Variables& variables) {
  const auto found = Read(variables);
  EXPECT_TRUE(found.ok()) << found.status();
  if (!found.ok() || !found->has_value()) {
    ADD_FAILURE() << "no launch was seen";
    return {};
  }
  return **found;
}
bool None(const Variables& variables) {
  const auto found = Read(variables);
  EXPECT_TRUE(found.ok()) << found.status();
  return found.ok() && !found->has_value();
}
std::string Why(const Variables& variables) {
  const auto found = Read(variables);
  EXPECT_EQ(ExitCodeOf(found.status(), ExitCode::kDone), ExitCode::kSetUp);
  EXPECT_THAT(Message(found.status()), HasSubstr("--rendezvous"));
  return Message(found.status());
}
Variables With(Variables variables, const Variables& changes) {
  for (const auto& [name, value] : changes) variables[name] = value;
  return variables;
}

const Variables kOpenMpi = {{"OMPI_COMM_WORLD_RANK", "5"},
                            {"OMPI_COMM_WORLD_SIZE", "8"},
                            {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                            {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"},
                            {"PMIX_RANK", "5"},
                            {"PMIX_NAMESPACE", "12345.1"}};
const Variables kMpich = {{"PMI_RANK", "3"}, {"PMI_SIZE", "4"}, {"MPI_LOCALRANKID", "1"}, {"MPI_LOCALNRANKS", "2"}};
const Variables kBatchScript = {{"SLURM_JOB_ID", "1234"},
                                {"SLURM_JOBID", "1234"},
                                {"SLURM_PROCID", "0"},
                                {"SLURM_LOCALID", "0"},
                                {"SLURM_NODEID", "0"},
                                {"SLURM_NTASKS", "6"},
                                {"SLURM_JOB_NODELIST", "tux[1-3]"},
                                {"SLURM_TASKS_PER_NODE", "2(x3)"}};
const Variables kSlurm = With(kBatchScript, {{"SLURM_STEP_ID", "0"},
                                             {"SLURM_PROCID", "3"},
                                             {"SLURM_LOCALID", "1"},
                                             {"SLURM_NODEID", "1"},
                                             {"SLURM_STEP_NODELIST", "tux[1-3]"},
                                             {"SLURM_STEP_NUM_TASKS", "6"},
                                             {"SLURM_STEP_TASKS_PER_NODE", "2(x3)"}});

TEST(LauncherEnvironment, NobodyStartedIt) {
  EXPECT_TRUE(None({}));
  EXPECT_TRUE(None({{"PATH", "/bin"}, {"OMPI_MCA_btl", "tcp"}, {"PMIX_RANK", ""}}));
}

TEST(LauncherEnvironment, OpenMpi) {
  const LauncherEnvironment found = Found(kOpenMpi);
  EXPECT_EQ(found.kind, LauncherEnvironment::Kind::kOpenMpi);
  EXPECT_EQ(found.rank, 5);
  EXPECT_EQ(found.world_size, 8);
  EXPECT_EQ(found.local_rank, 1);
  EXPECT_EQ(found.local_size, 4);
  EXPECT_EQ(found.which(), "mpirun (Open MPI)");
}

TEST(LauncherEnvironment, Mpich) {
  const LauncherEnvironment found = Found(kMpich);
  EXPECT_EQ(found.kind, LauncherEnvironment::Kind::kMpich);
  EXPECT_EQ(found.rank, 3);
  EXPECT_EQ(found.world_size, 4);
  EXPECT_EQ(found.local_rank, 1);
  EXPECT_EQ(found.local_size, 2);
  EXPECT_EQ(Found({{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}}).local_rank, 0) << "not all say more";
}

TEST(LauncherEnvironment, Slurm) {
  for (const Variables& variables : {kSlurm, With(kSlurm, {{"PMI_RANK", "3"}, {"PMI_SIZE", "6"}}),
                                     With(kSlurm, {{"PMIX_RANK", "3"}, {"PMIX_NAMESPACE", "slurm.1234.0"}})}) {
    const LauncherEnvironment found = Found(variables);
    EXPECT_EQ(found.kind, LauncherEnvironment::Kind::kSlurm);
    EXPECT_EQ(found.rank, 3);
    EXPECT_EQ(found.world_size, 6);
    EXPECT_EQ(found.local_rank, 1);
    EXPECT_EQ(found.local_size, 2);
    EXPECT_EQ(found.node_list, "tux[1-3]");
    EXPECT_EQ(found.job_id, 1234);
    EXPECT_EQ(found.step_id, 0);
  }
  const Variables uneven = With(kSlurm, {{"SLURM_STEP_TASKS_PER_NODE", "1,2,3"}});
  EXPECT_EQ(Found(With(uneven, {{"SLURM_NODEID", "1"}})).local_size, 2);
  EXPECT_EQ(Found(With(uneven, {{"SLURM_NODEID", "2"}})).local_size, 3);
  EXPECT_EQ(Found(With(kSlurm, {{"SLURM_STEP_TASKS_PER_NODE", "2(x2),5"}, {"SLURM_NODEID", "2"}})).local_size, 5);
}

TEST(LauncherEnvironment, AShellInAnAllocationIsNoLaunch) {
  EXPECT_TRUE(None({{"SLURM_JOB_ID", "1234"}, {"SLURM_NTASKS", "6"}, {"SLURM_JOB_NODELIST", "tux[1-3]"}})) << "salloc";
  EXPECT_TRUE(None(kBatchScript));
  for (const char* step : {"4294967291", "4294967290"}) EXPECT_TRUE(None(With(kSlurm, {{"SLURM_STEP_ID", step}}))) << "batch, interactive";
  const Variables one = With(kSlurm, {{"SLURM_PROCID", "0"},
                                      {"SLURM_NODEID", "0"},
                                      {"SLURM_LOCALID", "0"},
                                      {"SLURM_STEP_NUM_TASKS", "1"},
                                      {"SLURM_NTASKS", "1"},
                                      {"SLURM_STEP_TASKS_PER_NODE", "1"}});
  EXPECT_TRUE(None(one)) << "srun --pty bash";
  EXPECT_TRUE(None({{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "1"}}));
}

TEST(LauncherEnvironment, MpirunInsideAStepIsTheNearerOne) {
  // Its daemons are the step's tasks, one a node.
  const Variables daemon =
      With(kSlurm, {{"SLURM_STEP_NUM_TASKS", "3"}, {"SLURM_NTASKS", "3"}, {"SLURM_PROCID", "1"}, {"SLURM_LOCALID", "0"}});
  EXPECT_EQ(Found(With(daemon, kOpenMpi)).rank, 5);
  EXPECT_EQ(Found(With(daemon, kMpich)).rank, 3);
  EXPECT_EQ(Found(With(daemon, kMpich)).kind, LauncherEnvironment::Kind::kMpich);
}

TEST(LauncherEnvironment, ContradictionsNameBothValues) {
  const auto open_mpi = [](const Variables& changes) { return Why(With(kOpenMpi, changes)); };
  EXPECT_THAT(open_mpi({{"OMPI_COMM_WORLD_RANK", "8"}, {"PMIX_RANK", "8"}}),
              HasSubstr("OMPI_COMM_WORLD_RANK is 8, expected less than OMPI_COMM_WORLD_SIZE, which is 8"));
  EXPECT_THAT(open_mpi({{"OMPI_COMM_WORLD_SIZE", "0"}}), HasSubstr("OMPI_COMM_WORLD_SIZE is \"0\", expected a whole number from 1"));
  EXPECT_THAT(open_mpi({{"OMPI_COMM_WORLD_RANK", "x"}}), HasSubstr("OMPI_COMM_WORLD_RANK is \"x\""));
  EXPECT_THAT(open_mpi({{"OMPI_COMM_WORLD_RANK", ""}}), HasSubstr("OMPI_COMM_WORLD_SIZE is 8, but OMPI_COMM_WORLD_RANK is not set"));
  EXPECT_THAT(open_mpi({{"OMPI_COMM_WORLD_SIZE", ""}}), HasSubstr("OMPI_COMM_WORLD_RANK is 5, but OMPI_COMM_WORLD_SIZE is not set"));
  EXPECT_THAT(open_mpi({{"OMPI_COMM_WORLD_LOCAL_SIZE", "9"}}),
              HasSubstr("LOCAL_SIZE is 9, expected at most OMPI_COMM_WORLD_SIZE, which is 8"));
  EXPECT_THAT(open_mpi({{"OMPI_COMM_WORLD_LOCAL_RANK", "4"}}),
              HasSubstr("LOCAL_RANK is 4, expected less than OMPI_COMM_WORLD_LOCAL_SIZE, which is 4"));
  EXPECT_THAT(open_mpi({{"OMPI_COMM_WORLD_RANK", "2"}, {"OMPI_COMM_WORLD_LOCAL_RANK", "3"}, {"PMIX_RANK", "2"}}),
              HasSubstr("LOCAL_RANK is 3, expected at most OMPI_COMM_WORLD_RANK, which is 2"));
  EXPECT_THAT(open_mpi({{"PMIX_RANK", "4"}}), HasSubstr("PMIX_RANK is 4, but mpirun (Open MPI) says that this is rank 5"));
  EXPECT_THAT(open_mpi(kMpich), HasSubstr("OMPI_COMM_WORLD_RANK is 5 of 8, but PMI_RANK is 3 of 4"));
  EXPECT_THAT(Why({{"PMIX_RANK", "1"}, {"PMIX_NAMESPACE", "x"}}), HasSubstr("PMIX_RANK is 1, but nothing says how many"));
  const auto slurm = [](const Variables& changes) { return Why(With(kSlurm, changes)); };
  EXPECT_THAT(slurm({{"SLURM_NTASKS", "4"}}), HasSubstr("SLURM_NTASKS is 4, but SLURM_STEP_NUM_TASKS is 6"));
  EXPECT_THAT(slurm({{"SLURM_PROCID", "6"}}), HasSubstr("SLURM_PROCID is 6, expected less than SLURM_STEP_NUM_TASKS, which is 6"));
  EXPECT_THAT(slurm({{"SLURM_LOCALID", "2"}}), HasSubstr("SLURM_LOCALID is 2 of 6 tasks, but SLURM_STEP_TASKS_PER_NODE is 2(x3)"));
  EXPECT_THAT(slurm({{"SLURM_PROCID", "0"}, {"SLURM_LOCALID", "0"}}),
              HasSubstr("SLURM_PROCID is 0, expected on the first node, but SLURM_NODEID is 1"));
  EXPECT_THAT(slurm({{"SLURM_DISTRIBUTION", "arbitrary"}}), HasSubstr("nothing says on which node task 0 runs"));
  EXPECT_THAT(slurm({{"SLURM_JOB_ID", ""}}), HasSubstr("SLURM_JOB_ID is not set"));
}

// --- Node lists.

std::vector<std::string> Names(std::string_view list) {
  const auto names = ExpandNodeList(list);
  EXPECT_TRUE(names.ok()) << names.status();
  return names.ok() ? *names : std::vector<std::string>();
}
// printf's own padding, as an oracle.
std::vector<std::string> Numbered(const char* format, int from, int to) {
  std::vector<std::string> names;
  for (int i = from; i <= to; ++i) {
    char name[64];
    std::snprintf(name, sizeof name, format, i);
    names.push_back(name);
  }
  return names;
}
std::vector<std::string> operator+(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(NodeList, ExamplesOfSlurmsManualPages) {
  EXPECT_THAT(Names("linux[1-3,6]"), ElementsAre("linux1", "linux2", "linux3", "linux6"));
  EXPECT_THAT(Names("node1,node[2-5,12]"), ElementsAre("node1", "node2", "node3", "node4", "node5", "node12"));
  EXPECT_EQ(Names("tux[0-5,12,20-25]"), Numbered("tux%d", 0, 5) + Numbered("tux%d", 12, 12) + Numbered("tux%d", 20, 25));
  EXPECT_EQ(Names("lx[10-20]"), Numbered("lx%d", 10, 20));
  EXPECT_EQ(Names("linux[00-17]"), Numbered("linux%02d", 0, 17));
  EXPECT_EQ(Names("linux[0-64,128]"), Numbered("linux%d", 0, 64) + Numbered("linux%d", 128, 128));
  EXPECT_EQ(Names("linux[0000-1023]"), Numbered("linux%04d", 0, 1023));
  EXPECT_THAT(Names("alpha,beta,gamma"), ElementsAre("alpha", "beta", "gamma"));
  EXPECT_THAT(Names("lx[15,18,32-33]"), ElementsAre("lx15", "lx18", "lx32", "lx33"));
  EXPECT_THAT(Names("tux[2,1-2]"), ElementsAre("tux2", "tux1", "tux2")) << "order and repetition are the list's";
  std::vector<std::string> blades;
  for (int rack = 0; rack < 64; ++rack) blades = blades + Numbered(Cat("rack", rack, "_blade%d").c_str(), 0, 41);
  EXPECT_EQ(Names("rack[0-63]_blade[0-41]"), blades);
}

TEST(NodeList, WidthsSuffixesAndSingleNames) {
  EXPECT_THAT(Names("n[08-11]"), ElementsAre("n08", "n09", "n10", "n11"));
  EXPECT_THAT(Names("n[9-11]"), ElementsAre("n9", "n10", "n11"));
  EXPECT_THAT(Names("n[1,02,003]-ib.example.org"), ElementsAre("n1-ib.example.org", "n02-ib.example.org", "n003-ib.example.org"));
  EXPECT_THAT(Names("host"), ElementsAre("host"));
  EXPECT_THAT(Names("[1-2]"), ElementsAre("1", "2"));
}

TEST(NodeList, WhatIsNoneIsRefused) {
  for (const char* bad : {"",      ",",     "a,",     ",a",       "a,,b", "a[",    "a]",      "a[]",   "a[1",   "a1]",
                          "a[1-]", "a[-1]", "a[2-1]", "a[1-2-3]", "a[x]", "a[1,]", "a[1[2]]", "a[ 1]", "a[+1]", "a[9999999999]"}) {
    const auto names = ExpandNodeList(bad);
    EXPECT_EQ(names.status().code(), StatusCode::kInvalidArgument) << bad;
    EXPECT_THAT(Message(names.status()), HasSubstr(Cat("\"", bad, "\"")));
  }
  for (const char* huge : {"a[0-999999999]", "a[0-65536]", "a[0-999]b[0-999]", "a[0-60000],b[0-60000]"}) {
    EXPECT_EQ(ExpandNodeList(huge).status().code(), StatusCode::kResourceExhausted) << huge;
  }
  EXPECT_EQ(Names("a[0-65535]").size(), 65'536U);
  EXPECT_FALSE(ExpandNodeList(std::string(300, 'x')).ok());
}

TEST(SlurmRendezvous, TheFirstNodeAndAPortOfJobAndStep) {
  unsetenv("DTRAIN_TOKEN");
  unsetenv("DTRAIN_TOKEN_FILE");
  LauncherEnvironment environment = Found(kSlurm);
  const auto first = SlurmRendezvous(environment, "runs/a", "eth1");
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(first->address.host, "tux1");
  EXPECT_EQ(first->rank, 3);
  EXPECT_EQ(first->world_size, 6);
  EXPECT_EQ(first->run_directory, "runs/a");
  EXPECT_EQ(first->interface, "eth1");
  EXPECT_EQ(first->token, "") << "job and step are known to all: they make no token";
  std::set<uint16_t> ports;
  for (environment.job_id = 1'000; environment.job_id < 1'010; ++environment.job_id) {
    for (environment.step_id = 0; environment.step_id < 10; ++environment.step_id) {
      const uint16_t port = SlurmRendezvous(environment, "r")->address.port;
      EXPECT_GE(port, 12'000);
      EXPECT_LT(port, 32'000);
      ports.insert(port);
    }
  }
  EXPECT_EQ(ports.size(), 100U) << "neighbours do not meet";
  environment.job_id = INT64_MAX;
  EXPECT_TRUE(SlurmRendezvous(environment, "r").ok());
  environment.node_list = "tux[";
  EXPECT_THAT(Message(SlurmRendezvous(environment, "r").status()), AllOf(HasSubstr("find rank 0"), HasSubstr("brackets do not match")));
}

}  // namespace
}  // namespace dtrain
