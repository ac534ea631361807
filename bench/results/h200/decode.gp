# Draws the .svg and the .png beside this script from the .tsv: run gnuplot in this folder.
set encoding utf8
set datafile separator "\t"
set title 'decode: gpu (µs) against requests'."\n".'NVIDIA H200'
set xlabel 'requests'
set ylabel 'gpu (µs), median and quartiles'
set grid back lt 1 dt 1 lc rgb '#d8d8d8' lw 1
set border 3
set xtics nomirror
set ytics nomirror
set key outside right top vertical Left reverse samplen 2 noenhanced
set key title 'hidden, specs' left
set logscale x
set xtics ('1' 1, '2' 2, '4' 4, '8' 8, '16' 16, '32' 32, '64' 64, '128' 128, '256' 256, '512' 512, '1024' 1024)
set xrange [0.70710678118654746:1448.1546878700494]
set logscale y
set ytics ('1' 1, '2' 2, '5' 5, '10' 10)
set yrange [0.7059162757142261:18.279993375589168]
set terminal svg size 960,560 dynamic noenhanced font 'Helvetica,Arial,sans-serif,15' background 'white'
set output 'decode.svg'
plot 'decode.tsv' index 0 using 1:2:3:4 with yerrorlines lc rgb '#0072B2' lw 2 pt 7 ps 1 title '2048, one', \
     'decode.tsv' index 1 using 1:2:3:4 with yerrorlines lc rgb '#D55E00' lw 2 pt 5 ps 1 title '2048, distinct', \
     'decode.tsv' index 2 using 1:2:3:4 with yerrorlines lc rgb '#009E73' lw 2 pt 9 ps 1 title '4096, one', \
     'decode.tsv' index 3 using 1:2:3:4 with yerrorlines lc rgb '#CC79A7' lw 2 pt 13 ps 1 title '4096, distinct', \
     'decode.tsv' index 4 using 1:2:3:4 with yerrorlines lc rgb '#E69F00' lw 2 pt 11 ps 1 title '8192, one', \
     'decode.tsv' index 5 using 1:2:3:4 with yerrorlines lc rgb '#56B4E9' lw 2 pt 6 ps 1 title '8192, distinct'
set terminal pngcairo size 1920,1120 noenhanced font 'Sans,15' fontscale 1.9 linewidth 2 pointscale 2
set output 'decode.png'
replot
set output
