// Ranks as threads of the test, each pair with a link over a transport of the test's choice.
#pragma once
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "allreduce/link_communicator.h"
#include "base/check.h"
#include "base/transport.h"

namespace dtrain {

// links[i][j]: the end of rank i of the link between i and j; null for i = j.
using LinkMesh = std::vector<std::vector<std::unique_ptr<Link>>>;

inline LinkMesh MakeMesh(Transport& transport, int size) {
  const Deadline deadline = Deadline::In(std::chrono::seconds(20));
  LinkMesh mesh(static_cast<size_t>(size));
  for (auto& links : mesh) links.resize(static_cast<size_t>(size));
  const auto listener = transport.Listen({"127.0.0.1", 0});
  DTRAIN_CHECK(listener.ok());
  for (size_t i = 0; i < mesh.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      auto connected = transport.Connect((*listener)->address(), deadline);
      auto accepted = (*listener)->Accept(deadline);
      DTRAIN_CHECK(connected.ok() && accepted.ok());
      mesh[i][j] = *std::move(connected);
      mesh[j][i] = *std::move(accepted);
    }
  }
  return mesh;
}

// What each rank ended with. `options` without rank and size.
inline std::vector<Status> RunLinkRanks(LinkMesh mesh, const LinkOptions& options, const std::function<Status(LinkCommunicator&)>& body) {
  std::vector<Status> ended(mesh.size());
  std::vector<std::thread> threads;
  for (size_t rank = 0; rank < mesh.size(); ++rank) {
    threads.emplace_back([&, rank] {
      LinkOptions mine = options;
      mine.group.rank = static_cast<int>(rank);
      mine.group.size = static_cast<int>(mesh.size());
      const auto communicator = LinkCommunicator::Open(std::move(mesh[rank]), mine);
      ended[rank] = communicator.ok() ? body(**communicator) : communicator.status();
    });
  }
  for (std::thread& thread : threads) thread.join();
  return ended;
}

}  // namespace dtrain
