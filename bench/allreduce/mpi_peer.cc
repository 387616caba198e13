// The peer of allreduce_bench: MPI_Allreduce of floats, in place.
//   mpirun -n 2 mpi_allreduce_peer
#include <mpi.h>

#include <algorithm>
#include <cstdio>
#include <vector>

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank = 0, ranks = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  std::vector<float> data(16 << 20);
  if (rank == 0) std::printf("%d ranks, medians\n%10s  %-8s %12s %8s\n", ranks, "bytes", "backend", "us", "GB/s");
  for (const int bytes : {4 << 10, 64 << 10, 1 << 20, 25 << 20, 64 << 20}) {
    const int at_once = bytes <= 4 << 10 ? 200 : bytes <= 64 << 10 ? 20 : 1;
    std::vector<double> times;
    for (int turn = 0; turn < (bytes <= 1 << 20 ? 200 : 20); ++turn) {
      MPI_Barrier(MPI_COMM_WORLD);
      const double from = MPI_Wtime();
      for (int n = 0; n < at_once; ++n) MPI_Allreduce(MPI_IN_PLACE, data.data(), bytes / 4, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
      if (turn > 0) times.push_back((MPI_Wtime() - from) / at_once);
    }
    std::nth_element(times.begin(), times.begin() + static_cast<long>(times.size() / 2), times.end());
    const double seconds = times[times.size() / 2];
    if (rank == 0) std::printf("%10d  %-8s %12.2f %8.2f\n", bytes, "mpi", seconds * 1e6, bytes / seconds / 1e9);
  }
  MPI_Finalize();
}
